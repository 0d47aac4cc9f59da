"""Tensors of one number, such as zeros, are as wide as the channels that they meet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

WIDTH = 6


class Net(nn.Module):
    """A convolution, what `meet` makes of its map, and a second one."""

    def __init__(self, meet: Callable[..., Any]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, WIDTH, 3)
        self.head = nn.Conv2d(WIDTH, 4, 1)
        self.width = WIDTH
        self.meet = meet

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.meet(self, self.conv(x)))


def _in_place(net: Net, x: Tensor) -> Tensor:
    state = torch.zeros(x.size(0), WIDTH, 1, 1)
    state.add_(x.mean((2, 3), keepdim=True))
    return x * state


def _added(net: Net, x: Tensor) -> Tensor:
    state = torch.zeros(x.size(0), WIDTH, 1, 1, dtype=x.dtype)
    state += x.mean((2, 3), keepdim=True)
    return x * state


def _set(net: Net, x: Tensor) -> Tensor:
    state = torch.zeros(x.size(0), WIDTH, 1, 1)
    state[:, :2] = 1
    return x * state


def _several_axes(net: Net, x: Tensor) -> Tensor:
    state = torch.ones(1, WIDTH, WIDTH, WIDTH)
    return x + state + (x.transpose(1, 2) + state).transpose(1, 2)


FOLLOWED: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "sizes one by one": lambda net, x: x + torch.ones(x.size(0), WIDTH, 1, 1),
    "a tuple of sizes": lambda net, x: x + torch.zeros((1, WIDTH, 1, 1)),
    "sizes by name": lambda net, x: x + torch.ones(size=(1, WIDTH, 1, 1)),
    "an attribute": lambda net, x: x * torch.full((1, net.width, 1, 1), 0.5),
    "of a shape": lambda net, x: x + torch.ones(x.shape),
    "of a size": lambda net, x: x + torch.ones(x.size(1), 1, 1),
    "made anew": lambda net, x: x + x.new_ones(1, WIDTH, 1, 1),
    "of a computed number": lambda net, x: x + torch.full((1, WIDTH, 1, 1), x.new_ones(()) * 2),
    "made anew of a number": lambda net, x: x + x.new_full((1, WIDTH, 1, 1), 2.0),
    "alike": lambda net, x: x + torch.ones_like(torch.zeros(1, WIDTH, 1, 1)),
    "cast": lambda net, x: x + torch.ones(1, WIDTH, 1, 1).to(x.dtype),
    "met twice": lambda net, x: (lambda ones: (x + ones) * ones)(torch.ones(WIDTH, 1, 1)),
    "beside along another axis": lambda net, x: torch.cat([x.new_ones(1, WIDTH, 6, 2), x[:1]], 3),
    "added to": _added,
    "met from the left": lambda net, x: torch.ones(WIDTH, 1, 1) - x,
}


@pytest.mark.parametrize("meet", FOLLOWED.values(), ids=list(FOLLOWED))
def test_they_are_cut_with_what_they_meet(meet: Any, cut: Callable[..., Any]) -> None:
    result = cut(Net(meet), 3, 8, 8)
    assert not result.dependencies.left_whole
    assert result.small.conv.out_channels < WIDTH


def _used(net: Net, x: Tensor) -> Tensor:
    ones = torch.ones(1, WIDTH, 1, 1)
    return x * ones + ones.sum()


def _reshaped(net: Net, x: Tensor) -> Tensor:
    ones = torch.ones(1, WIDTH, 1, 1)
    return x * ones + ones.view(1, 2, 3, 1).mean()


KEPT: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "changed in place": _in_place,
    "set in part": _set,
    "along several axes": _several_axes,
    "counted later": _used,
    "reshaped": _reshaped,
    "drawn": lambda net, x: x + torch.ones(1, WIDTH, 1, 1).bernoulli(),
    "two of a width": lambda net, x: (
        x + torch.zeros(1, 1, 1, 1) * torch.ones(2, WIDTH, 1, 1).sum(0)
    ),
}


@pytest.mark.parametrize("meet", KEPT.values(), ids=list(KEPT))
def test_what_else_uses_them_leaves_all_whole(meet: Any, find: Callable[..., Any]) -> None:
    assert "conv" in find(Net(meet), (2, 3, 8, 8)).left_whole


def test_one_that_is_returned_stays_as_it_is(find: Callable[..., Any]) -> None:
    class Two(Net):
        def forward(self, x: Tensor) -> Any:
            ones = torch.ones(1, WIDTH, 1, 1)
            return self.head(self.conv(x) + ones), ones

    reason = find(Two(FOLLOWED["cast"]), (2, 3, 8, 8)).left_whole["conv"]
    assert reason.startswith("it meets a tensor that the forward fills with one number")


class Shift(nn.Module):
    def forward(self, x: Tensor, state: Any = None) -> Tensor:
        (given,) = (torch.ones(1, WIDTH, 1, 1),) if state is None else state
        return x + given


def test_a_child_may_be_given_one(cut: Callable[..., Any]) -> None:
    class Giving(Net):
        def __init__(self) -> None:
            super().__init__(lambda net, x: net.shift(x, (torch.ones(1, WIDTH, 1, 1),)))
            self.shift = Shift()

    assert cut(Giving(), 3, 8, 8).small.conv.out_channels < WIDTH


def test_a_module_that_makes_one_and_is_called_twice_has_one_width(cut: Callable[..., Any]) -> None:
    class Twice(Net):
        def __init__(self) -> None:
            super().__init__(lambda net, x: net.shift(net.second(net.shift(x))))
            self.shift = Shift()
            self.second = nn.Conv2d(WIDTH, WIDTH, 1)

    small = cut(Twice(), 3, 8, 8).small
    assert small.conv.out_channels == small.second.out_channels < WIDTH


class Steps(nn.Module):
    """A convolutional LSTM: its first states are zeros, beside what each step reads."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.units = units
        self.gates = nn.Conv2d(inputs + units, 4 * units, 3, padding=1)

    def forward(self, x: Tensor, state: Any) -> Any:
        h, c = state
        i, f, o, g = self.gates(torch.cat([x, h], 1)).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


def test_first_states_beside_an_input_are_cut(cut: Callable[..., Any]) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lower, self.upper = Steps(3, WIDTH), Steps(WIDTH, 5)
            self.head = nn.Conv2d(5, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            b, _, _, h, w = x.shape
            lower, upper = (
                tuple(torch.zeros(b, units, h, w, dtype=x.dtype) for _ in range(2))
                for units in (WIDTH, 5)
            )
            for step in range(2):
                lower = self.lower(x[:, step], lower)
                upper = self.upper(lower[0], upper)
            return self.head(upper[0])

    result = cut(Recurrent(), 2, 3, 5, 5, seed=1)
    assert not result.dependencies.left_whole
    assert result.small.lower.gates.out_channels < 4 * WIDTH
    assert result.small.upper.gates.out_channels < 20


def test_appended_zeros_go_with_what_meets_them(cut: Callable[..., Any]) -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4 + WIDTH, 1)
            self.head = nn.Conv2d(4 + WIDTH, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            zeros = torch.zeros(x.size(0), WIDTH, x.size(2), x.size(3), dtype=x.dtype)
            return self.head(torch.cat([x, zeros], 1) + self.second(x))

    result = cut(Padded(), 3, 5, 5)
    assert not result.dependencies.left_whole
    assert result.small.second.out_channels < 4 + WIDTH
