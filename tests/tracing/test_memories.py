"""What a forward keeps for inputs of one size is made anew in the written one, for any size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunecore import UnsupportedError


class Anchored(nn.Module):
    """Keeps a grid until an input of another shape comes."""

    shape: Any = None
    anchors = torch.empty(0)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.shape != x.shape:
            self.anchors = torch.arange(x.shape[3]).type_as(x) + 0.5
            self.shape = x.shape
        return self.last(x * self.anchors)


class Gridded(nn.Module):
    """Keeps a grid for each of two maps, and scales of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 2, 2)])
        self.last = nn.Conv2d(6, 2, 1)
        self.grid = [torch.zeros(1)] * 2
        self.stride = torch.tensor([4.0, 8.0])

    def forward(self, x: Tensor) -> Tensor:
        ys = [layer(x) for layer in self.layers]
        for i in range(2):
            if self.grid[i].shape != ys[i].shape[2:]:
                self.grid[i] = torch.arange(ys[i].shape[2])[:, None].type_as(x)
                self.grid[i] = self.grid[i].repeat(1, ys[i].shape[3])
            ys[i] = ys[i] * self.grid[i] * self.stride[i]
        return self.last(ys[0]).mean((2, 3)) + self.last(ys[1]).mean((2, 3))


class Sized(nn.Module):
    """Resizes to what it was told by a method."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)
        self.size: Any = None
        self.set_size((2, 2))

    def set_size(self, size: tuple[int, int]) -> None:
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(x if self.size is None else x[:, :, : self.size[0], : self.size[1]])


@pytest.mark.parametrize("cls", [Anchored, Gridded, Sized])
@pytest.mark.parametrize("is_used", [False, True])
def test_what_is_kept_for_a_size_is_made_anew(
    cut: Callable[..., Any], cls: type[nn.Module], is_used: bool
) -> None:
    net = cls().eval()
    if is_used:  # at the size and batch that the walk has
        net(torch.rand(2, 3, 4, 4))
    result = cut(net, 3, 4, 4)
    assert "assert" not in result.forward
    assert result.dependencies.left_whole == {}
    x = torch.rand(2, 3, 8, 6, dtype=torch.float64)
    assert result.small(x).shape == result.model(x).shape


class Recurrent(nn.Module):
    """Computes with what the last call has left."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 6), nn.Linear(6, 2)
        self.hidden = torch.zeros(1, 6)

    def forward(self, x: Tensor) -> Tensor:
        if self.hidden.shape[0] != x.shape[0]:
            self.hidden = torch.zeros(x.shape[0], 6)
        self.hidden = self.first(x) + self.hidden
        return self.last(self.hidden)


def test_what_the_last_call_has_left_is_refused(find: Callable[..., Any]) -> None:
    net = Recurrent()
    net.hidden = torch.zeros(2, 6)
    with pytest.raises(UnsupportedError, match=r"changes self\.hidden from one call to the next"):
        find(net, (2, 3))


class Buffered(nn.Module):
    """Keeps what it multiplies with in a buffer."""

    def __init__(self, function: Callable[[Any, Tensor], None], persistent: bool = False) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)
        self.register_buffer("kept", torch.zeros(1), persistent=persistent)
        self.function = function

    def keep(self, x: Tensor) -> None:
        self.kept: Any = x

    def forward(self, x: Tensor) -> Tensor:
        self.function(self, x)
        return self.last(torch.sigmoid(self.first(x)) * self.kept)


def of_size(net: Any, x: Tensor) -> None:
    if net.kept.shape[0] != x.shape[3]:
        net.keep(torch.arange(x.shape[3]) + 0.5)


def of_width(net: Any, x: Tensor) -> None:
    if net.kept.shape[1] != x.shape[3]:
        net.keep(torch.arange(x.shape[3])[None] + 0.5)


def of_input(net: Any, x: Tensor) -> None:
    net.keep(x.new_ones(1) * 2)


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("function", [of_size, of_width, of_input])
def test_a_buffer_that_is_made_for_a_size_is_made_anew(
    cut: Callable[..., Any], function: Callable[..., Any], persistent: bool
) -> None:
    net = Buffered(function, persistent)
    if function is of_width:
        net.kept = torch.zeros(1, 2)
    result = cut(net, 3, 4, 4)
    assert "self.kept" not in result.forward


def of_before(net: Any, x: Tensor) -> None:
    net.keep(net.kept + 1)


def of_numbers(net: Any, x: Tensor) -> None:
    net.keep(x.mean())


@pytest.mark.parametrize("function", [of_before, of_numbers])
def test_a_buffer_that_is_set_for_the_next_call_is_refused(
    cut: Callable[..., Any], function: Callable[..., Any]
) -> None:
    with pytest.raises(UnsupportedError, match="kept anew, for the next") as told:
        cut(Buffered(function), 3, 4, 4)
    assert "change the buffer in place" in str(told.value)
