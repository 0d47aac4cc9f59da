"""Forward hooks: those that change something are followed or refused, never dropped unsaid."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import spectral_norm, weight_norm

import prunecore

from ..conftest import randomised

Hooked = Callable[[nn.Module], Any]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.inner = nn.Sequential(nn.Conv2d(8, 12, 1), nn.ReLU(), nn.Conv2d(12, 8, 1))
        self.head = nn.Linear(8, 5)
        self.scale = 0.5

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.stem(x)))
        x = x + self.inner(x)
        return self.head(x.mean((2, 3)))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return randomised(Net())


def expected_of(net: nn.Module, written: prunecore.PrunedModel, x: Tensor) -> Tensor:
    """What the network does as it is called, where the removed channels are zeroed."""
    state = {key: value.clone() for key, value in net.state_dict().items()}
    with torch.no_grad():
        for name, axes in written.report["kept"].items():
            tensor = net.state_dict(keep_vars=True)[name]
            for axis, kept in enumerate(axes):
                if kept is not None:
                    gone = torch.ones(tensor.shape[axis], dtype=torch.bool)
                    gone[kept] = False
                    tensor.index_fill_(axis, gone.nonzero().ravel(), 0.0)
        output = net.eval()(x)
    net.load_state_dict(state)
    return output


def scaled(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    return output * 2 - 1


def clamped(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor]:
    return (inputs[0].clamp(-0.5, 0.5),)


def in_place(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
    output.mul_(3)


def on_data(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    return output * 2 if output.mean().item() > 0 else output


CHANGING: dict[str, Hooked] = {
    "output of a child": lambda net: net.stem.register_forward_hook(scaled),
    "input of a child": lambda net: net.inner.register_forward_pre_hook(clamped),
    "in place": lambda net: net.bn.register_forward_hook(in_place),
    "of a leaf in a container": lambda net: net.inner[1].register_forward_hook(scaled),
    "output of the network": lambda net: net.register_forward_hook(scaled),
    "input of the network": lambda net: net.register_forward_pre_hook(clamped),
    "with keywords": lambda net: net.inner.register_forward_hook(
        lambda _m, _a, _k, output: output + 1, with_kwargs=True
    ),
    "that knows the network": lambda net: net.head.register_forward_hook(
        lambda _m, _i, output: output * net.scale
    ),
}


@pytest.mark.parametrize("hook", CHANGING.values(), ids=CHANGING)
@pytest.mark.parametrize("verify", [True, False])
def test_a_hook_that_changes_something_is_followed(net: Net, hook: Hooked, verify: bool) -> None:
    hook(net)
    x = torch.rand(4, 3, 6, 6, dtype=torch.float64)
    small = prunecore.prune(net, torch.rand(2, 3, 6, 6), 40, verify=verify)
    assert "hooks" not in str(small.report["left_out"])
    expected = expected_of(net.double(), small, x)
    with torch.no_grad():
        actual = small.model.double().eval()(x)
    assert torch.allclose(actual, expected, rtol=1e-9, atol=1e-12)


def test_a_hook_that_cannot_be_followed_is_refused_by_path(net: Net) -> None:
    net.inner.register_forward_hook(on_data)
    with pytest.raises(prunecore.UnsupportedError) as caught:
        prunecore.prune(net, torch.rand(2, 3, 6, 6), 40, verify=False)
    said = str(caught.value)
    assert "inner (Sequential)" in said
    assert "forward hook on_data" in said
    assert "--drop inner.hooks" in said


def test_hooks_are_left_out_by_name_and_the_report_says_so(net: Net) -> None:
    net.inner.register_forward_hook(on_data)
    net.stem.register_forward_hook(scaled)
    small = prunecore.prune(net, torch.rand(2, 3, 6, 6), 40, drop=["inner.hooks"])
    assert small.report["left_out"] == ["inner.hooks"]
    assert small.report["verified"]
    assert "* 2" in small.source
    small = prunecore.prune(net, torch.rand(2, 3, 6, 6), 40, drop=["hooks"])
    assert sorted(small.report["left_out"]) == ["inner.hooks", "stem.hooks"]
    assert "* 2" not in small.source


def test_a_set_without_hooks_is_verified_again(net: Net, tmp_path: Any) -> None:
    net.inner.register_forward_hook(on_data)
    small = prunecore.prune(net, torch.rand(2, 3, 6, 6), 40, drop=["inner.hooks"])
    file, _, _ = small.save(tmp_path / "net_40.py")
    assert prunecore.verify(file, net).max_relative_difference <= 1e-9


def test_a_hook_that_only_looks_changes_nothing(net: Net) -> None:
    plain = prunecore.prune(net, torch.rand(2, 3, 6, 6), 40)
    seen: list[Any] = []
    net.stem.register_forward_hook(lambda _m, _i, output: seen.append(output.mean().item()))
    net.register_forward_pre_hook(lambda _m, inputs: seen.append(tuple(inputs[0].shape)))
    watched = prunecore.prune(net, torch.rand(2, 3, 6, 6), 40)
    assert watched.source == plain.source
    assert seen == []


class Stages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = nn.functional.dropout(stage(x), 0.5, self.training)
        return x


class Recording(nn.Module):
    """Reads what layers within a child return, by hooks that it registers for the while."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head = nn.Conv2d(3, 8, 3), Stages(), nn.Conv2d(24, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        handles = [
            stage.register_forward_hook(lambda module, given, output: seen.append(output))
            for stage in self.body.stages
        ]
        self.body(self.stem(x))
        for handle in handles:
            handle.remove()
        return self.head(torch.cat(seen, 1))


class RecordingForGood(Recording):
    """The same, by hooks that are registered when it is first called."""

    seen: list[Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        first, self.seen = self.seen is None, []
        for stage in self.body.stages if first else []:
            stage.register_forward_hook(lambda module, given, output: self.seen.append(output))
        self.body(self.stem(x))
        return self.head(torch.cat(self.seen, 1))


@pytest.mark.parametrize("kind", [Recording, RecordingForGood])
def test_hooks_that_a_forward_registers_are_followed(kind: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    net = kind()
    small = prunecore.prune(net, level=30, input_shape=(3, 8, 8), mode="random")
    assert small.report["verified"]["max_relative_difference"] <= 1e-9
    assert small.report["left_whole"] == []
    assert "register" not in small.source
    assert not any(module._forward_hooks for module in net.modules())


SEEN: ContextVar[list[Tensor]] = ContextVar("SEEN")


def note(_module: nn.Module, _given: Any, output: Tensor) -> None:
    SEEN.get().append(output)


class Capturing(nn.Module):
    """Reads what hooks have seen, which it registers when it is called for the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)
        self.fuse = nn.Conv2d(16, 4, 1)
        self.is_ready = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_ready:
            self.first.register_forward_hook(note)
            self.second.register_forward_hook(note)
            self.is_ready = True
        seen: list[Tensor] = []
        token = SEEN.set(seen)
        self.second(torch.relu(self.first(x)))
        SEEN.reset(token)
        fused: Tensor = self.fuse(torch.cat(seen, 1))
        return fused


@pytest.mark.parametrize("is_run", [False, True])
def test_a_forward_that_goes_by_what_hooks_have_seen(is_run: bool) -> None:
    model, x = Capturing(), torch.rand(2, 3, 4, 4)
    if is_run:
        model(x)
    small = prunecore.prune(model, x, 40)
    assert small.report["left_whole"] == []
    assert "register" not in small.source


def test_a_name_of_hooks_that_are_not_there_comes_with_the_nearest(net: Net) -> None:
    net.inner.register_forward_hook(scaled)
    with pytest.raises(prunecore.UsageError, match=r"inner\.hooks"):
        prunecore.prune(net, torch.rand(2, 3, 6, 6), 40, drop=["iner.hooks"])


def test_a_hook_of_a_block_that_a_plugin_follows(net: Net) -> None:
    pytest.importorskip("prunecore_resnet")
    from torchvision.models.resnet import BasicBlock

    model = nn.Sequential(nn.Conv2d(3, 8, 1), BasicBlock(8, 8), nn.Flatten(), nn.Linear(128, 3))
    model = randomised(model)
    model[1].conv1.register_forward_hook(scaled)
    small = prunecore.prune(model, torch.rand(2, 3, 4, 4), 40)
    x = torch.rand(4, 3, 4, 4, dtype=torch.float64)
    expected = expected_of(model.double(), small, x)
    with torch.no_grad():
        assert torch.allclose(small.model.double().eval()(x), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("norm", [weight_norm, spectral_norm])
def test_a_weight_that_a_hook_computes_is_folded_in(
    net: Net, norm: Callable[[nn.Module], nn.Module]
) -> None:
    with pytest.warns(FutureWarning) if norm is weight_norm else contextlib.nullcontext():
        norm(net.stem)
    small = prunecore.prune(net, torch.rand(2, 3, 6, 6), 40)
    assert small.report["left_out"] == [f"stem.{norm.__name__}"]


def test_a_hook_of_every_module_is_refused_where_it_changes_something(net: Net) -> None:
    handle = nn.modules.module.register_module_forward_hook(scaled)
    try:
        with pytest.raises(prunecore.UnsupportedError, match="of all modules"):
            prunecore.prune(net, torch.rand(2, 3, 6, 6), 40)
    finally:
        handle.remove()
