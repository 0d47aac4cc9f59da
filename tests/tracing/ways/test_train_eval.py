"""What only training does: followed, written under an `if`, compared, and left out by choice."""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import prunecore
from prunecore import UnsupportedError, UsageError, VerificationError
from prunecore.channels.keep import Keep
from prunecore.inputs import of_shape
from prunecore.planning.plan import make_plan
from prunecore.plugins.loading import load
from prunecore.verifying.comparison import verify
from prunecore.walking.network import walk
from prunecore.writing.building import build, transfer_weights

from ...conftest import check_outputs, masked, randomised

pytestmark = pytest.mark.usefixtures("toys_installed")


class Outputs(NamedTuple):
    logits: Tensor
    aux: Tensor | None


class Net(nn.Module):
    """Layers of one width, and a function of them and the input."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.a = nn.Linear(3, 8)
        self.b = nn.Linear(8, 8)
        self.aux = nn.Linear(8, 6)
        self.head = nn.Linear(6, 2)
        self.last = nn.Linear(8, 2)
        self.drop = nn.Dropout(0.5)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def auxiliary(net: Any, x: Tensor) -> Any:
    x = F.relu(net.a(x))
    aux = None
    if net.aux is not None and net.training:
        aux = net.head(net.aux(x))
    x = net.last(net.drop(F.relu(net.b(x))))
    return Outputs(x, aux) if net.training else x


def only_eval(net: Any, x: Tensor) -> Tensor:
    x = net.last(F.relu(net.a(x)))
    return x if net.training else x.softmax(1)


def noisy(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    if net.training:
        x = x * net.b(x).sigmoid()
    return net.last(F.relu(x))


def two_ways(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    if net.training:
        out = net.head(F.relu(net.aux(x)))
        x = x * 2 + out.sum(1, keepdim=True)
    else:
        x = net.b(x) + 1
    return net.last(F.relu(x))


def one_call_each(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    x = F.relu(x) if net.training else F.silu(x)
    return net.last(x)


def swapped(net: Any, x: Tensor) -> Tensor:
    a, b = F.relu(net.a(x)), torch.sigmoid(net.a(x))
    if net.training:
        a, b = b, a
    return net.last(a - 2 * b)


def in_training_first(net: Any, x: Tensor) -> Any:
    x = net.a(x)
    if net.training:
        return {"out": net.last(x), "aux": net.head(net.aux(x))}
    return net.last(F.relu(net.b(x)))


EXPECTED = {
    auxiliary: """
        x = F.relu(self.a(x))
        if self.training:
            aux = self.aux(x)
            aux = self.head(aux)
        x = self.drop(F.relu(self.b(x)))
        x = self.last(x)
        if self.training:
            return Outputs(x, aux)
        return x
    """,
    only_eval: """
        x = F.relu(self.a(x))
        x = self.last(x)
        if self.training:
            return x
        return x.softmax(1)
    """,
    noisy: """
        x = self.a(x)
        if self.training:
            x = x * self.b(x).sigmoid()
        x = F.relu(x)
        return self.last(x)
    """,
    one_call_each: """
        x = self.a(x)
        out = F.relu(x) if self.training else F.silu(x)
        return self.last(out)
    """,
}
ALL = [*EXPECTED, two_ways, swapped, in_training_first]


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines()]


def body(source: str) -> list[str]:
    """The lines of the last forward of a file."""
    return lines(source.rpartition("def forward(")[2].partition(":\n")[2].partition("\n\n\n")[0])


@pytest.mark.parametrize("function", ALL)
def test_both_modes_are_written_and_compute_what_the_original_does(function: Any) -> None:
    model = randomised(Net(function))
    small = prunecore.prune(model, level=30, input_shape=(3,))
    assert small.report["verified"]["max_relative_difference"] <= 1e-9
    if function in EXPECTED:
        assert body(small.source) == lines(EXPECTED[function])


@pytest.mark.parametrize("function", ALL)
def test_whatever_is_kept_both_modes_agree(function: Any) -> None:
    model, plugins = randomised(Net(function)), load()
    dependencies = walk(model, of_shape((3,)), plugins)
    scores = torch.rand(dependencies.count, generator=torch.Generator().manual_seed(1)).numpy()
    plan = make_plan(dependencies, scores, 40, "channels")
    keep = Keep(model, dependencies, plan.kept)
    from prunecore.writing.source_file import write_network

    source = write_network(model, keep, plugins, "net", "A network.")
    small = build(source, "net", transfer_weights(model, keep, plugins))
    assert verify(model, keep, small, of_shape((3,)))["inputs"] == 8


def taken_in_training(net: Any, x: Tensor) -> Any:
    x = net.a(x)
    return (net.last(x), net.head(x[:, 2:])) if net.training else net.last(x)


def taken_of_either(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    if net.training:
        x = net.b(x)
    return net.head(x[:, 2:])


def taken_before_another_result(net: Any, x: Tensor) -> Tensor:
    y = net.last(net.a(x))
    if net.training:
        y = net.head(net.b(net.a(x))[:, 2:])
    return torch.relu(y)


def read_beside_what_it_becomes(net: Any, x: Tensor) -> Any:
    x = net.a(x)
    if net.training:
        x = net.b(x)
    return torch.sigmoid(x), net.last(x)


def both_become_another(net: Any, x: Tensor) -> Tensor:
    x = y = net.a(x)
    if net.training:
        y = net.b(x)
        x = torch.sigmoid(x)
    return net.last(x - 2 * y)


def one_in_the_places_of_two(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    y = net.b(x) if net.training else x
    return net.last(torch.sub(x, y, alpha=2))


def sizes_of_either(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    if net.training:
        n, c = x.shape
        return net.last(torch.tanh(x.reshape(n, c)))
    return net.last(torch.tanh(x.reshape(x.shape)))


def size_of_the_input(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    if net.training:
        y = net.head(net.aux(y))
        return torch.tanh(y.reshape(x.shape[0], 2))
    return torch.tanh(net.last(y).reshape(x.shape[0], 2))


def sizes_of_what_stays(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    z = net.b(y)
    if net.training:
        torch.tanh(z.reshape(y.shape))
    else:
        net.a(torch.tanh(x.reshape(x.shape)))
    return net.last(z)


@pytest.mark.parametrize(
    "function",
    [
        taken_in_training,
        taken_of_either,
        taken_before_another_result,
        read_beside_what_it_becomes,
        both_become_another,
        one_in_the_places_of_two,
        sizes_of_either,
        size_of_the_input,
        sizes_of_what_stays,
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_each_mode_computes_what_the_original_does(
    cut: Callable[..., Any], function: Any, seed: int
) -> None:
    result = cut(Net(function), 3, seed=seed)
    reference, small = masked(result.model, result.keep).train(), result.small.train()
    check_outputs(reference, small, (3, 3))


class Telling(nn.Module):
    """Returns something more in training."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 8), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Any:
        x = self.a(x)
        return (x, self.b(x)) if self.training else x


def test_a_submodule_returns_more_in_training(cut: Callable[..., Any]) -> None:
    class Told(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.telling, self.last, self.aux = Telling(), nn.Linear(8, 2), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Any:
            x = self.telling(x)
            if self.training:
                x, more = x
                return self.last(x), self.aux(more)
            return self.last(x)

    result = cut(Told(), 3)
    reference, small = masked(result.model, result.keep).train(), result.small.train()
    check_outputs(reference, small, (3, 3))


def test_a_fault_in_training_alone_is_found() -> None:
    model = randomised(Net(auxiliary))
    plugins = load()
    dependencies = walk(model, of_shape((3,)), plugins)
    keep = Keep(model, dependencies, ~dependencies.removable | True)
    small = randomised(Net(auxiliary))
    small.load_state_dict(model.state_dict())
    assert verify(model, keep, small, of_shape((3,)))["inputs"] == 8
    with torch.no_grad():
        small.get_parameter("aux.weight")[0] += 1
    with pytest.raises(VerificationError, match=r"first at aux \(Linear.*in training"):
        verify(model, keep, small, of_shape((3,)))


def test_a_head_of_training_is_an_output_and_its_layers_are_pruned() -> None:
    found = walk(randomised(Net(auxiliary)), of_shape((3,)), load())
    assert found.left_out == ()
    assert found.forwards.only_in_training == {"aux", "head"}
    removable = {path: found.removable[found.axes[i]].all() for path, i in found.layers.items()}
    assert removable["aux"]
    assert "head.weight" in found.tensors
    assert not found.removable[found.axes[found.layers["head"]]].any()
    assert set(found.macs) == {"a.weight", "b.weight", "last.weight"}  # counted is eval mode


def test_what_is_dropped_is_left_out_and_named() -> None:
    model = randomised(Net(auxiliary))
    small = prunecore.prune(model, level=30, input_shape=(3,), drop=["aux", "head"])
    assert small.report["left_out"] == ["aux", "head"]
    assert "self.training" not in small.source
    assert not any(key.startswith(("aux", "head")) for key in small.weights)


def test_training_does_without_a_part_of_what_it_reaches() -> None:
    class Two(Net):
        def __init__(self) -> None:
            super().__init__(auxiliary)
            self.other = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Any:
            x = F.relu(self.a(x))
            if not self.training:
                return self.last(x)
            other = None if self.other is None else self.other(x)
            return Outputs(self.last(x), other), self.head(self.aux(x))

    small = prunecore.prune(randomised(Two()), level=30, input_shape=(3,), drop=["other"])
    assert small.report["left_out"] == ["b", "drop", "other"]
    outputs, aux = small.model.train()(torch.randn(2, 3, dtype=torch.float64))
    assert (type(outputs).__name__, outputs.aux, aux.shape) == ("Outputs", None, (2, 2))


def test_all_that_only_training_does_is_left_out_by_one_word(tmp_path: Any) -> None:
    model = randomised(Net(auxiliary))
    small = prunecore.prune(model, level=30, input_shape=(3,), drop=["training"])
    assert small.report["left_out"] == ["aux", "head", "training"]
    small.save(tmp_path / "net_30.py")
    assert prunecore.verify(tmp_path / "net_30.py", model, input_shape=(3,)).inputs == 8


@pytest.mark.parametrize("drop", [["aux", "head"], []])
def test_a_written_set_is_verified_with_what_was_dropped(tmp_path: Any, drop: list[str]) -> None:
    model = randomised(Net(auxiliary))
    prunecore.prune(model, level=30, input_shape=(3,), drop=drop).save(tmp_path / "net_30.py")
    assert prunecore.verify(tmp_path / "net_30.py", model, input_shape=(3,)).inputs == 8


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        (["b"], "b cannot be dropped: the network calls it in eval mode, too"),
        (["auxx"], "Unknown module to drop 'auxx'. Did you mean 'aux'"),
        ("aux", r"drop is a list of modules, not 'aux'.\nGive \['aux'\]"),
    ],
)
def test_what_cannot_be_dropped_is_refused(drop: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prunecore.prune(Net(auxiliary), level=30, input_shape=(3,), drop=drop)


def test_a_part_of_what_a_plugin_follows_cannot_be_dropped_alone() -> None:
    class Nested(Net):
        def __init__(self) -> None:
            super().__init__(auxiliary)
            self.aux = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 6))

    with pytest.raises(UsageError, match=r"aux\.1 cannot be dropped by itself"):
        prunecore.prune(Nested(), level=30, input_shape=(3,), drop=["aux.1"])


def branches_on_values(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    if net.training and x.sum() > 0:
        x = net.b(x)
    return net.last(x)


def draws_by_itself(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    if net.training and torch.rand(1) < 0.5:
        return net.last(x)
    return net.last(net.b(x))


def draws_in_python(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    if net.training and random.random() < 0.5:
        return net.last(x)
    return net.last(net.b(x))


coin = random.random  # which `from random import random` would be, too


def draws_by_another_name(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    if net.training and coin() < 0.5:
        return net.last(x)
    return net.last(net.b(x))


def unknown_function(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    if net.training:
        x = torch.fft.fft(x).real
    return net.last(net.b(x))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (branches_on_values, "its forward in training cannot be traced"),
        (draws_by_itself, "its forward in training draws numbers"),
        (draws_in_python, "its forward in training draws numbers"),
        (draws_by_another_name, "its forward in training draws numbers"),
        (unknown_function, "its forward calls fft_fft"),
    ],
)
def test_training_that_cannot_be_followed_is_refused_and_can_be_left_out(
    function: Any, reason: str
) -> None:
    model = randomised(Net(function))
    before = torch.get_rng_state(), random.getstate()
    with pytest.raises(UnsupportedError, match=r"the network \(Net\)") as raised:
        prunecore.prune(model, level=30, input_shape=(3,), strict=True)
    assert reason in raised.value.reason
    assert raised.value.remedy.endswith("Or leave out what only training does (--drop training).")
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    small = prunecore.prune(model, level=30, input_shape=(3,), drop=["training"])
    assert "training" in small.report["left_out"]


def test_a_draw_is_noticed_where_a_profiler_runs() -> None:
    sys.setprofile(profiler := lambda *_: None)
    try:
        with pytest.raises(UnsupportedError, match="its forward in training draws numbers"):
            prunecore.prune(randomised(Net(draws_in_python)), level=30, input_shape=(3,))
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(None)
    assert prunecore.prune(randomised(Net(two_ways)), level=30, input_shape=(3,)).report["verified"]
    assert sys.getprofile() is None


def test_what_an_import_draws_is_not_the_forwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `torch.rand` imports what looks for a folder of its own by trying names at random."""
    (tmp_path / "imported_late.py").write_text("import random\nrandom.Random(0).random()\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def drops_some(net: Any, x: Tensor) -> Tensor:
        x = net.a(x)
        if net.training:
            importlib.import_module("imported_late")
            x = x * torch.floor(0.8 + torch.rand([x.shape[0], 1]))
        return net.last(net.b(x))

    small = prunecore.prune(randomised(Net(drops_some)), level=30, input_shape=(3,))
    assert "torch.rand([" in small.source


class Head(nn.Module):
    """Returns another thing in training, and lies in what does not ask."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 2)
        self.extra = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Any:
        return (self.fc(x), self.extra(x)) if self.training else self.fc(x)


def test_a_branch_within_a_block_reaches_what_lies_around_it() -> None:
    model = randomised(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), Head()))
    small = prunecore.prune(model, level=30, input_shape=(3,))
    assert small.report["left_out"] == []
    first, second = small.model.train()(torch.randn(2, 3, dtype=torch.float64))
    assert first.shape == second.shape == (2, 2)
    assert small.model.eval()(torch.randn(2, 3, dtype=torch.float64)).shape == (2, 2)


def test_what_only_training_calls_keeps_both_of_its_own_ways() -> None:
    class Outer(Net):
        def __init__(self) -> None:
            super().__init__(auxiliary)
            self.aux = nn.Sequential(nn.Linear(8, 8), Noise(), nn.Linear(8, 6))

    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if self.training else x

    small = prunecore.prune(randomised(Outer()), level=30, input_shape=(3,))
    assert lines(small.source.partition("class Noise")[2].partition("\n\n\n")[0])[-3:] == [
        "if self.training:",
        "return x * 2",
        "return x",
    ]


class Averaging(nn.Module):
    """Keeps an average of what it has seen in training, and takes it away."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 6), nn.Linear(6, 2)
        self.register_buffer("center", torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.training:
            with torch.no_grad():
                self.center.mul_(0.9).add_(x.mean(0), alpha=0.1)
        return self.last(x - self.center)


def test_what_training_changes_is_read_by_both(cut: Callable[..., Any]) -> None:
    result = cut(Averaging(), 3)
    assert result.forward.endswith("\nreturn self.last(x - self.center)")
    assert "else" not in result.forward
    small = result.small.train()
    x = torch.ones(1, 3, dtype=torch.float64)
    with torch.no_grad():
        before = small.center.clone()
        small(x)
        assert small.center.allclose(before * 0.9 + small.first(x)[0] * 0.1)
