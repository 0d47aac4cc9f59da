"""What calling a network does beside the forwards of its classes is written, or refused."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.nn.utils import prune

import prunecore
from prunecore.cli.main import main

Make = Callable[[], nn.Module]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 16), nn.Linear(16, 12), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu()).relu())


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.up, self.second = Net(), nn.Linear(2, 3), Net()

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.up(self.first(x)))


class Gain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


def sequential() -> nn.Module:
    return nn.Sequential(
        nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 2)
    )


def hooked(make: Make, path: str, hook: Any, **options: Any) -> Make:
    def made() -> nn.Module:
        net = make()
        net.get_submodule(path).register_forward_hook(hook, **options)
        return net

    return made


def pre_hooked(make: Make, path: str, hook: Any, **options: Any) -> Make:
    def made() -> nn.Module:
        net = make()
        net.get_submodule(path).register_forward_pre_hook(hook, **options)
        return net

    return made


def in_place(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
    output.mul_(2)


def doubled(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    return output * 2


def in_training(module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    return output * 2 if module.training else output * 3


def by_its_weight(module: Any, inputs: Any, _output: Tensor) -> Tensor:
    return F.linear(inputs[0], module.weight.abs(), module.bias)


def another_layer() -> nn.Module:
    net: Any = Net()
    net.extra = nn.Linear(16, 16)
    net.a.register_forward_hook(lambda _module, _inputs, output: net.extra(output))
    return net


def setting_what_a_child_reads() -> nn.Module:
    net: Any = nn.Sequential(nn.Linear(3, 16), Gain(), nn.Linear(16, 2))

    def set_gain(_module: nn.Module, _inputs: Any) -> None:
        net[1].gain = 3.0

    net.register_forward_pre_hook(set_gain)
    return net


def shared() -> nn.Module:
    net = Outer()
    net.second = net.first
    net.first.a.register_forward_hook(lambda _module, _inputs, output: output * 2 + 1)
    return net


def two_of_a_module() -> nn.Module:
    net = Net()
    net.a.register_forward_hook(doubled)
    net.a.register_forward_hook(lambda _module, _inputs, output: output.sin())
    net.a.register_forward_hook(lambda _module, _inputs, output: output + 1, prepend=True)
    return net


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(3, 16), nn.LayerNorm(16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.norm(self.a(x))))


class Functional(Normed):
    def forward(self, x: Tensor) -> Tensor:
        y = F.layer_norm(self.a(x), (16,))
        return self.b(F.relu(y))


class Doubled(Net):
    def __call__(self, x: Tensor) -> Any:
        return super().__call__(x) * 2


def of_a_class_with_a_call() -> nn.Module:
    net = Outer()
    net.second = Doubled()
    return net


def other_forward() -> nn.Module:
    net: Any = Net()
    forward = net.a.forward
    net.a.forward = lambda x: forward(x) * 2
    return net


FOLLOWED: dict[str, Make] = {
    "hook": hooked(Net, "a", doubled),
    "pre-hook": pre_hooked(Net, "b", lambda _module, inputs: inputs[0] + 1),
    "pre-hook, a tuple": pre_hooked(Net, "b", lambda _module, inputs: (inputs[0] * 3,)),
    "hook by name": hooked(Net, "a", lambda _m, _a, _k, output: output.tanh(), with_kwargs=True),
    "pre-hook by name": pre_hooked(
        Net, "b", lambda _m, args, kwargs: ((args[0] * 3,), kwargs), with_kwargs=True
    ),
    "always called": hooked(Net, "a", doubled, always_call=True),
    "in place": hooked(Net, "a", in_place),
    "two of a module": two_of_a_module,
    "of the network": hooked(Net, "", lambda _module, _inputs, output: output.sigmoid()),
    "before the network": pre_hooked(Net, "", lambda _module, inputs: (inputs[0] * 2 - 1,)),
    "of nn.Sequential": hooked(sequential, "", lambda _m, _i, output: output.sigmoid()),
    "in nn.Sequential": hooked(sequential, "0", doubled),
    "of an activation": hooked(sequential, "1", lambda _module, _inputs, output: output.sin()),
    "of a block": hooked(Outer, "first", lambda _module, _inputs, output: output * 2 + 1),
    "in a block": hooked(Outer, "first.a", lambda _module, _inputs, output: output * 2 + 1),
    "of a shared block": shared,
    "in training another": hooked(Net, "a", in_training),
    "with its weight": hooked(Net, "a", by_its_weight),
    "with another layer": another_layer,
    "setting what is read": setting_what_a_child_reads,
    "another forward": other_forward,
    "another call": of_a_class_with_a_call,
    "another call of the network": Doubled,
    "another shape": hooked(sequential, "2", lambda _m, _i, output: output.repeat(1, 2)[:, :12]),
}


def difference(make: Make, small: Any) -> float:
    """Between the written network and the user's, as it is called, without what is not kept."""
    torch.manual_seed(0)
    net = make().double().eval()
    with torch.no_grad():
        for name, tensor in itertools.chain(net.named_parameters(), net.named_buffers()):
            for axis, places in enumerate(small.report["kept"].get(name, ())):
                if places is not None:
                    gone = sorted(set(range(tensor.shape[axis])) - set(places))
                    tensor.index_fill_(axis, torch.tensor(gone, dtype=torch.int64), 0)
        x = torch.rand(4, 3, dtype=torch.float64) - 0.4
        return float((net(x) - small.model.double().eval()(x)).abs().max())


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("make", FOLLOWED.values(), ids=FOLLOWED)
def test_what_hooks_change_is_written(make: Make, verify: bool) -> None:
    torch.manual_seed(0)
    small = prunecore.prune(make(), level=30, input_shape=(3,), verify=verify)
    assert small.report["kept"]
    assert difference(make, small) < 1e-12


@pytest.mark.parametrize("net", [Normed(), Functional()])
@pytest.mark.parametrize("path", ["", "a", "norm", "b"])
def test_hooks_beside_a_norm_are_proven(net: nn.Module, path: str) -> None:
    """It is another forward in the masked original, or the trace that it belongs to is run."""
    net.get_submodule(path).register_forward_hook(lambda _m, _i, output: output * 2 + 1)
    small = prunecore.prune(net, level=30, input_shape=(3,))
    assert small.report["verified"]
    assert len(small.report["kept"]) > 2


def test_a_head_that_is_dropped_is_none_of_the_proof() -> None:
    class Guided(Net):
        def __init__(self) -> None:
            super().__init__()
            self.guide = nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Any:
            x = self.a(x).relu()
            y = self.c(self.b(x).relu())
            return (y, self.guide(x), self.guide(x)) if self.training else y

    net = Guided()
    net.a.register_forward_hook(in_training)
    for drop in ([], ["guide"], ["training"]):
        small = prunecore.prune(net, level=30, input_shape=(3,), drop=drop)
        assert small.report["verified"]
        assert ("self.guide" in small.source) is (not drop)


def test_what_is_left_out_is_said(tmp_path: Any) -> None:
    make = hooked(hooked(Net, "a", doubled), "b", doubled)
    torch.manual_seed(0)
    small = prunecore.prune(make(), level=30, input_shape=(3,), drop=["a.hooks"])
    assert small.report["left_out"] == ["a.hooks"]
    assert "* 2" in small.source
    assert difference(hooked(Net, "b", doubled), small) < 1e-12
    file, _, _ = small.save(tmp_path / "net.py")
    torch.manual_seed(0)
    assert prunecore.verify(file, make())
    torch.manual_seed(0)
    assert prunecore.verify(file, hooked(Net, "b", doubled)())  # where it was never registered
    torch.manual_seed(0)
    with pytest.raises(prunecore.VerificationError):
        prunecore.verify(file, hooked(Net, "a", doubled)())


@pytest.mark.parametrize("name", ["b.hooks", "hook", "a.hook"])
def test_only_hooks_that_are_there_are_left_out(name: str) -> None:
    net = hooked(Net, "a", doubled)()
    with pytest.raises(prunecore.UsageError, match=r"Known: a, a.hooks, b, c") as e:
        prunecore.prune(net, level=30, input_shape=(3,), drop=[name])
    assert str(e.value).startswith(f"Unknown module to drop {name!r}. Did you mean 'a.hooks'?")


def when_large(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor | None:
    return output.clamp(max=1) if output.max() > 1e6 else None


def in_place_when_large(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
    if output.max().item() > 1e6:
        output.clamp_(max=1)


def with_what_another_kept() -> nn.Module:
    net: Any = Net()

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        net.kept = output

    net.a.register_forward_hook(keep)
    net.b.register_forward_hook(lambda _m, _i, output: output + net.kept.mean(1, keepdim=True))
    return net


def not_held() -> nn.Module:
    layer = nn.Linear(16, 16)
    return hooked(Net, "a", lambda _module, _inputs, output: layer(output))()


def setting_what_it_reads() -> nn.Module:
    net = nn.Sequential(nn.Linear(3, 16), Gain(), nn.Linear(16, 2))

    def set_gain(module: Any, _inputs: Any) -> None:
        module.gain = 3.0

    net[1].register_forward_pre_hook(set_gain)
    return net


REFUSED: dict[str, tuple[Make, str, str]] = {
    "by values": (hooked(Net, "a", when_large), "a", "forward hook when_large may change"),
    "in place by values": (hooked(Net, "a", in_place_when_large), "a", "in_place_when_large may"),
    "what another kept": (with_what_another_kept, "b", "may change something and cannot be"),
    "not held": (not_held, "a", "calls a Linear that it does not hold"),
    "sets what is read": (setting_what_it_reads, "1", "sets gain, which its forward reads"),
}


@pytest.mark.parametrize(("make", "path", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_followed_is_refused_by_path(make: Make, path: str, reason: str) -> None:
    with pytest.raises(prunecore.UnsupportedError) as caught:
        prunecore.prune(make(), level=30, input_shape=(3,), verify=False)
    assert str(caught.value).startswith(f"Cannot prune through {path} (")
    assert reason in str(caught.value)
    assert f"--drop {path}.hooks" in str(caught.value)
    assert prunecore.prune(make(), level=30, input_shape=(3,), drop=[f"{path}.hooks"])


class ShapedInTraining(nn.Module):
    """Takes the shape of its input, or of what training makes of that, which is as wide."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.third, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.first(x)
        if self.training:
            x = self.second(x)
            self.third(x)
        return self.last(y.reshape(x.shape)), y


class DroppedAndMore(nn.Module):
    """Says itself whether it drops something, and does more in training."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.more, self.last = nn.Linear(6, 12), nn.Linear(12, 4), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(torch.relu(self.first(x)), 0.5, self.training)
        return self.last(x) + self.more(x) if self.training else self.last(x)


def test_a_dropout_that_is_told_whether_it_drops() -> None:
    small = prunecore.prune(DroppedAndMore(), torch.rand(2, 6), 30)
    assert "training=self.training)" in small.source


class HalfInTraining(nn.Module):
    """Uses one half always, and a part of the other half in training."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(1, 4), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.first(x).chunk(2, 2)
        if self.training:
            self.second(one[:, :, :1])
        return self.last(other)


def test_a_part_of_what_training_alone_uses() -> None:
    small = prunecore.prune(HalfInTraining(), torch.rand(2, 2, 6), 30)
    assert small.report["left_whole"] == []


def test_a_shape_is_that_of_what_training_makes() -> None:
    small = prunecore.prune(ShapedInTraining(), torch.rand(2, 2, 4), 30)
    assert small.model.second.out_features < small.model.first.out_features == 4


def weight_norm() -> nn.Module:
    net = Net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is a newer form
        net.a = nn.utils.weight_norm(net.a)
    return net


def spectral_norm() -> nn.Module:
    net = Net()
    net.a = nn.utils.spectral_norm(net.a)
    return net


def masked_weight() -> nn.Module:
    net = Net()
    prune.l1_unstructured(net.a, "weight", 0.5)
    prune.ln_structured(net.a, "weight", 0.25, n=1, dim=0)
    return net


def parametrized() -> nn.Module:
    net = Net()
    nn.utils.parametrizations.weight_norm(net.a)
    return net


def spectral_parametrized() -> nn.Module:
    net = Net()
    nn.utils.parametrizations.spectral_norm(net.a)
    return net


@pytest.mark.parametrize(
    ("make", "left_out"),
    [
        (weight_norm, "a.weight_norm"),
        (spectral_norm, "a.spectral_norm"),
        (masked_weight, "a.prune"),
        (parametrized, "a.parametrizations"),
        (spectral_parametrized, "a.parametrizations"),
    ],
)
def test_a_weight_that_is_computed_each_time_is_folded_in(
    make: Make, left_out: str, tmp_path: Path
) -> None:
    net = make()
    before = copy.deepcopy(net.state_dict())
    small = prunecore.prune(net, level=30, input_shape=(3,))
    assert small.report["left_out"] == [left_out]
    assert net.state_dict().keys() == before.keys()
    assert all(tensor.equal(before[name]) for name, tensor in net.state_dict().items())
    folded = Net()
    weights = {name: net.get_parameter(name) for name in folded.state_dict() if name != "a.weight"}
    net.eval()(torch.rand(1, 3))  # which computes the weight that it has by then
    folded.load_state_dict({**weights, "a.weight": net.a.weight.detach()})
    assert small.source == prunecore.prune(folded, level=30, input_shape=(3,)).source
    small.save(tmp_path / "net_30.py")
    assert prunecore.verify(tmp_path / "net_30.py", net).inputs
    assert prunecore.verify(tmp_path / "net_30.py", folded).inputs


@pytest.mark.parametrize(
    ("wrap", "name"),
    [(nn.DataParallel, "DataParallel"), (torch.compile, "OptimizedModule")],
)
def test_what_is_wrapped_is_pruned_without_its_wrapper(
    wrap: Callable[[nn.Module], nn.Module], name: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(3, 8), nn.Sequential(nn.Linear(8, 8), nn.ReLU()))
    plain.append(nn.Linear(8, 2))
    expected = prunecore.prune(plain, level=30, input_shape=(3,))
    for net, left_out in [
        (wrap(plain), [name]),
        (nn.Sequential(plain[0], wrap(plain[1]), plain[2]), [f"1.{name}"]),
    ]:
        modules = list(net.modules())
        small = prunecore.prune(net, level=30, input_shape=(3,))
        assert small.source == expected.source
        assert small.report["left_out"] == left_out
        assert list(net.modules()) == modules
    small.save(tmp_path / "net_30.py")
    assert prunecore.verify(tmp_path / "net_30.py", net).inputs
    assert prunecore.verify(tmp_path / "net_30.py", plain).inputs


def looking(seen: list[Any]) -> dict[str, Any]:
    def checking(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        seen.append(output)
        if torch.isnan(output).any():
            raise RuntimeError("not a number")

    def keeping(module: Any, _inputs: Any, output: Tensor) -> None:
        module.latest = output

    return {
        "appending": lambda _module, _inputs, output: seen.append(output.mean().item()),
        "checking": checking,
        "keeping": keeping,
    }


@pytest.mark.parametrize("name", looking([]))
def test_a_hook_that_only_looks_leaves_no_trace(name: str) -> None:
    seen: list[Any] = []
    net: Any = sequential()
    net[0].register_forward_hook(looking(seen)[name])
    attributes = dict(vars(net[0]))
    small = prunecore.prune(net, level=30, input_shape=(3,))
    assert "def forward" not in small.source
    assert seen == []
    assert vars(net[0]) == attributes
    assert small.report["left_out"] == []


def test_hooks_of_gradients_leave_the_network_as_it_is() -> None:
    net = sequential()
    handles = [
        net.register_full_backward_pre_hook(lambda _module, gradients: gradients),
        net[0].register_full_backward_hook(lambda _module, inputs, _outputs: inputs),
    ]
    small = prunecore.prune(net, level=30, input_shape=(3,))
    assert small.report["verified"]
    assert "def forward" not in small.source
    assert list(net[0]._backward_hooks) == [handles[1].id]


def test_the_command_line_leaves_hooks_out(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(
        """from torch import nn

def net():
    net = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2))
    net[0].register_forward_hook(lambda _module, _inputs, output: output * 2)
    return net
"""
    )
    line = "prune nets.py:net --level 30 --input-shape 3 --name small --drop 0.hooks"
    result = CliRunner().invoke(main, line.split())
    assert result.exit_code == 0, result.output
    assert "Left out: 0.hooks." in result.output
    assert "* 2" not in (tmp_path / "small_30.py").read_text()
    verified = CliRunner().invoke(main, ["verify", "small_30.py", "nets.py:net"])
    assert verified.exit_code == 0, verified.output


@pytest.fixture
def of_all() -> Iterator[list[Any]]:
    handles: list[Any] = []
    yield handles
    for handle in handles:
        handle.remove()


def test_a_pre_hook_of_all_modules_that_changes_something_is_refused(of_all: list[Any]) -> None:
    change = torch_module.register_module_forward_pre_hook(lambda _module, inputs: inputs[0] * 2)
    of_all.append(change)
    with pytest.raises(prunecore.UnsupportedError, match="forward pre-hook <lambda> of all"):
        prunecore.prune(Net(), level=30, input_shape=(3,), verify=False)


def test_a_hook_of_all_modules_may_look(of_all: list[Any]) -> None:
    seen: list[Any] = []
    look = torch_module.register_module_forward_hook(lambda *given: seen.append(given))
    of_all.append(look)
    assert prunecore.prune(Net(), level=30, input_shape=(3,)).report["verified"]
    assert seen == []
