"""Latency from end to end: networks that are written and timed, by a clock that widths move."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prunecore
from prunecore import LevelError, PrunecoreError, UsageError
from prunecore.latency import timing
from prunecore.plugin import PluginError

from .. import toy
from ..strangers import message, module

Install = Callable[..., None]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 40), nn.ReLU(), nn.Linear(40, 60), nn.Linear(60, 4))


class Board:
    """A backend whose clock goes on by 10 us for each row of a network's weights."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.made: list[tuple[nn.Module, Sequence[Tensor], Mapping[str, Tensor]]] = []
        monkeypatch.setattr(timing, "perf_counter", lambda: self.now)

    def __call__(
        self, network: nn.Module, args: Sequence[Tensor], kwargs: Mapping[str, Tensor]
    ) -> Callable[[], Any]:
        self.made.append((network, args, kwargs))
        rows = sum(len(tensor) for name, tensor in network.named_parameters() if "weight" in name)

        def run() -> Any:
            self.now += 1e-5 * rows
            return network(*args, **kwargs)

        return run


@pytest.fixture
def board(install: Install, monkeypatch: pytest.MonkeyPatch) -> Board:
    made = Board(monkeypatch)
    install(toy=toy, mine=module(prunecore_latency_backends=lambda: {"my_board": made}))
    return made


def test_the_written_network_is_as_fast_as_asked(board: Board) -> None:
    model = network()
    small = prunecore.prune(model, input_shape=(5,), to="0.6ms", latency="my-board")
    rows = sum(len(layer.weight) for layer in small.model if isinstance(layer, nn.Linear))
    assert rows * 0.01 == pytest.approx(0.6, rel=0.05)
    report = small.report
    assert report["goal"] == "0.6ms"
    assert report["target"] == "latency"
    assert report["level"]["asked"] == pytest.approx(100 * (1 - 0.6 / 1.04), abs=1e-3)
    assert report["level"]["achieved"] == pytest.approx(100 * (1 - rows / 104), abs=1e-3)
    assert report["latency"] == {
        "backend": "my-board",
        "threads": torch.get_num_threads(),
        "before": {"ms": 1.04, "spread": 0.0},
        "after": {"ms": pytest.approx(rows * 0.01), "spread": 0.0},
    }
    assert report["verified"]["max_relative_difference"] < 1e-9
    assert f"(magnitude, to {report['goal']})" in small.source
    assert "1.04 -> " in repr(small.plan)
    assert " ms, " in repr(small)


def test_a_level_is_a_share_of_the_time(board: Board) -> None:
    traced = prunecore.trace(network(), torch.rand(3, 5))
    plan = traced.plan(30, target="latency", latency="my_board")
    assert plan.achieved == pytest.approx(30, abs=3.5)
    assert plan.goal is None
    assert traced.prune(plan).report["latency"]["backend"] == "my-board"


def test_networks_are_timed_as_they_will_be_called(board: Board) -> None:
    model = network().double().train()
    example = torch.rand(3, 5)
    prunecore.trace(model, example).plan(30, target="latency", latency="my-board")
    for timed, args, kwargs in board.made:
        assert not timed.training
        assert args[0].dtype == torch.float64
        assert torch.equal(args[0], example.double())
        assert kwargs == {}
    assert model.training
    original, *written = (timed for timed, _, _ in board.made)
    assert next(original.parameters()) is next(model.parameters())
    assert 1 <= len(written) <= 8


def test_of_a_shape_one_input_is_drawn(board: Board) -> None:
    prunecore.trace(network(), input_shape=(5,)).plan(30, target="latency", latency="my-board")
    shapes = {tuple(args[0].shape) for _, args, _ in board.made}
    assert shapes == {(1, 5)}


def test_random_states_stay_as_they_are(board: Board) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    model = nn.Sequential(nn.Linear(5, 40), Noise(), nn.Linear(40, 4))
    torch.set_rng_state(before)
    prunecore.trace(model, input_shape=(5,)).plan(30, target="latency", latency="my-board")
    assert torch.equal(torch.get_rng_state(), before)


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand(1)


def test_a_latency_that_cannot_be_reached_writes_nothing(board: Board) -> None:
    with pytest.raises(LevelError, match=r"^The goal 0\.05ms cannot be reached: .* 0\.08 ms of 1"):
        prunecore.prune(network(), input_shape=(5,), to="0.05ms", latency="my-board")


def test_an_unknown_backend_is_named_with_the_known_ones(board: Board) -> None:
    with pytest.raises(UsageError) as caught:
        prunecore.prune(network(), input_shape=(5,), to="0.6ms", latency="my-bord")
    assert str(caught.value) == (
        "Unknown latency backend 'my-bord'. Did you mean 'my-board'?\nKnown: eager, my-board."
    )
    with pytest.raises(UsageError, match=r"^latency is 3"):
        prunecore.prune(network(), input_shape=(5,), to="0.6ms", latency=3)  # type: ignore[call-overload]


def test_a_latency_goes_with_one_step(board: Board) -> None:
    with pytest.raises(UsageError, match=r"^A latency is reached in one step, not in 3"):
        prunecore.prune(network(), input_shape=(5,), to="0.6ms", latency="my-board", steps=3)


def test_a_network_that_cannot_be_run_in_its_own_dtype_says_so(toys_installed: None) -> None:
    model = network()
    model[2].double()
    with pytest.raises(PrunecoreError) as caught:
        prunecore.prune(model, input_shape=(5,), to="1us")
    first, second = str(caught.value).splitlines()
    assert first.startswith("The network cannot be run to measure its latency: RuntimeError: ")
    assert second == "See whether it runs on inputs of this shape in its own dtype."


@pytest.mark.parametrize(
    ("backend", "told"),
    [
        (lambda network, args, kwargs: 1 / 0, "raised ZeroDivisionError: division by zero"),
        (lambda network, args, kwargs: 3, "returned int, which cannot be called"),
        (lambda network, args, kwargs: lambda: 1 / 0, "raised ZeroDivisionError: division by zero"),
        (lambda: None, "raised TypeError: "),
    ],
)
def test_a_backend_that_goes_wrong_names_its_plugin(
    install: Install, backend: Any, told: str
) -> None:
    install(toy=toy, mine=module(prunecore_latency_backends=lambda: {"mine": backend}))
    text = message(
        lambda: prunecore.prune(network(), input_shape=(5,), to="1us", latency="mine"), PluginError
    )
    assert text.startswith(f"prunecore-mine 0.1: the latency backend mine {told}")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (["eager"], "returned list, not a mapping of names to backends"),
        ({3: len}, "names a backend 3, which is not a name"),
        ({"mine": 3}, "gives 3 for mine, which cannot be called"),
        ({"a-b": len, "a_b": len}, "gives a-b twice"),
    ],
)
def test_what_are_no_backends(install: Install, answer: Any, told: str) -> None:
    install(toy=toy, mine=module(prunecore_latency_backends=lambda: answer))
    text = message(lambda: prunecore.prune(network(), input_shape=(5,), level=30))
    assert text.startswith(f"prunecore-mine 0.1: prunecore_latency_backends {told}.")


def test_eager_runs_the_network_without_gradients(toys_installed: None) -> None:
    model = network()
    run = prunecore.trace(model, input_shape=(5,)).plugins.latency_backend("eager")
    output = run(model, [torch.rand(2, 5)], {})()
    assert output.shape == (2, 4)
    assert not output.requires_grad
