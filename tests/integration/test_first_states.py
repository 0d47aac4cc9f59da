"""Loops over time that a forward writes out: the units of their first states go with the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import prunecore

WIDTH = 12

Start = Callable[[Any, Tensor], Any]
Step = Callable[[Any, Tensor, Any], Any]


class Loop(nn.Module):
    """Layers for the input and for the state before, as many times as there are gates."""

    def __init__(self, start: Start, step: Step, gates: int = 1) -> None:
        super().__init__()
        self.width, self.start, self.step = WIDTH, start, step
        self.own, self.before = nn.Linear(5, gates * WIDTH), nn.Linear(WIDTH, gates * WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.start(self, x)
        for t in range(x.shape[1]):
            h = self.step(self, x[:, t], h)
        return self.head(h[0] if isinstance(h, tuple) else h)


def simple(net: Loop, x: Tensor, h: Tensor) -> Tensor:
    return torch.tanh(net.own(x) + net.before(h))


def by_functions(net: Loop, x: Tensor, h: Tensor) -> Tensor:
    return torch.tanh(net.own(x) + F.linear(h, net.before.weight, net.before.bias))


def mixed(net: Loop, x: Tensor, h: Tensor) -> Tensor:
    return torch.tanh(net.before(h) + net.own(x)) * 0.5 + 0.5 * h


def gru(net: Loop, x: Tensor, h: Tensor) -> Tensor:
    own, before = net.own(x).chunk(3, -1), net.before(h).chunk(3, -1)
    reset, update = torch.sigmoid(own[0] + before[0]), torch.sigmoid(own[1] + before[1])
    return (1 - update) * torch.tanh(own[2] + reset * before[2]) + update * h


def lstm(net: Loop, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    h, c = state
    i, f, g, o = (net.own(x) + net.before(h)).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def zeros(net: Loop, x: Tensor) -> Tensor:
    return x.new_zeros(x.shape[0], net.width)


STARTS: dict[str, Start] = {
    "new_zeros": zeros,
    "zeros": lambda net, x: torch.zeros(x.shape[0], net.width, device=x.device, dtype=x.dtype),
    "ones": lambda net, x: torch.ones(x.size(0), WIDTH),
    "one for all inputs": lambda net, x: torch.zeros(1, WIDTH),
    "expanded": lambda net, x: x.new_full((1, WIDTH), 0.5).expand(x.shape[0], -1),
    "alike": lambda net, x: torch.zeros_like(zeros(net, x)),
}
STEPS: dict[str, tuple[Step, int]] = {
    "simple": (simple, 1),
    "by_functions": (by_functions, 1),
    "mixed": (mixed, 1),
    "gru": (gru, 3),
}


def pruned(net: nn.Module, *inputs: Tensor) -> prunecore.PruneResult:
    torch.manual_seed(0)
    small = prunecore.prune(net, inputs or (torch.randn(2, 3, 5),), level=40, mode="random")
    assert small.report["verified"]["max_relative_difference"] <= 1e-9
    return small


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("start", STARTS)
def test_units_of_a_first_state_go(start: str, step: str) -> None:
    small = pruned(Loop(STARTS[start], *STEPS[step]))
    assert small.report["left_whole"] == []
    assert small.model.before.in_features < WIDTH


PAIRS: dict[str, Start] = {
    "two": lambda net, x: (zeros(net, x), zeros(net, x)),
    "one twice": lambda net, x: (lambda h: (h, h))(zeros(net, x)),
    "alike": lambda net, x: (lambda h: (h, torch.zeros_like(h)))(zeros(net, x)),
    "cloned": lambda net, x: (lambda h: (h, h.clone()))(zeros(net, x)),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_units_of_both_first_states_go(pair: str) -> None:
    small = pruned(Loop(PAIRS[pair], lstm, 4))
    assert small.report["left_whole"] == []
    assert small.model.before.in_features < WIDTH


def test_a_state_that_something_else_reads_stays() -> None:
    def step(net: Loop, x: Tensor, h: Tensor) -> Tensor:
        return simple(net, x, h) + h.cumsum(-1).mean(-1, keepdim=True)

    with pytest.raises(prunecore.PrunecoreError, match="no channel that may go"):
        prunecore.prune(Loop(zeros, step), torch.randn(2, 3, 5), level=30)


def test_columns_that_read_constants_alone_may_go() -> None:
    class Constant(Loop):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.own(x) + self.before(torch.ones(x.shape[0], x.shape[1], WIDTH)))

    small = pruned(Constant(zeros, simple))
    assert small.report["left_whole"] == []


class Cell(nn.Module):
    """One step, in a module of its own."""

    def __init__(self, entering: int) -> None:
        super().__init__()
        self.own, self.before = nn.Linear(entering, WIDTH), nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.own(x) + self.before(h))


class Stacked(nn.Module):
    """Cells one above the other, each with a state of its own."""

    def __init__(self, cell: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.cells = nn.ModuleList([cell(5), cell(WIDTH)])
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        states = [x.new_zeros(x.shape[0], WIDTH) for _ in self.cells]
        outputs = []
        for t in range(x.shape[1]):
            y = x[:, t]
            for number, cell in enumerate(self.cells):
                y = states[number] = cell(y, states[number])
            outputs.append(y)
        return self.head(torch.stack(outputs, 1))


CELLS: dict[str, Callable[[int], nn.Module]] = {
    "own": Cell,
    "torch": lambda entering: nn.GRUCell(entering, WIDTH),
}


@pytest.mark.parametrize("cell", CELLS)
def test_states_of_several_cells(cell: str) -> None:
    small = pruned(Stacked(CELLS[cell]))
    assert small.report["left_whole"] == []


class Given(Stacked):
    """The first state of the lower cell is an input."""

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        upper = x.new_zeros(x.shape[0], WIDTH)
        for t in range(x.shape[1]):
            h = self.cells[0](x[:, t], h)
            upper = self.cells[1](h, upper)
        return self.head(upper)


@pytest.mark.parametrize("cell", CELLS)
def test_a_first_state_that_is_an_input_keeps_its_own_units(cell: str) -> None:
    small = pruned(Given(CELLS[cell]), torch.randn(2, 3, 5), torch.randn(2, WIDTH))
    whole = {one["layer"] for one in small.report["left_whole"]}
    assert whole
    assert all(layer.startswith("cells.0") for layer in whole)
    assert small.model.head.in_features < WIDTH


class Carrying(nn.Module):
    """A recurrent layer of torch's, whose state comes and goes."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.last = nn.Linear(5, 12), nn.Linear(20, 3)
        self.cell = nn.GRU(12, 20, num_layers=2, batch_first=True)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, state = self.cell(torch.relu(self.enter(x)), state)
        return self.last(y), state


def test_a_state_has_its_batch_second(tmp_path: Path) -> None:
    pytest.importorskip("prunecore_recurrent")
    model, given = Carrying(), (torch.rand(3, 7, 5), torch.rand(2, 3, 20))
    small = prunecore.prune(model, given, 10)
    assert small.report["inputs"]["shapes"] == [[7, 5], "float[2,*,20]"]
    assert [each["layer"] for each in small.report["left_whole"]] == ["cell"]
    file, *_ = small.save(tmp_path / "carrying_10.py")
    assert prunecore.verify(file, model).inputs
    small.model(torch.rand(4, 7, 5), torch.rand(2, 4, 20))
