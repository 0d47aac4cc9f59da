"""Numbers of channels within a forward: free in reshapes, and left whole where computed with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunecore.channels.signal import Signal, shaped
from prunecore.channels.sizes import counted, depending, sizes

WIDTH = 6


class Between(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, WIDTH, 1)
        self.function = function
        self.after = nn.Conv2d(WIDTH, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.function(self.before(x)))


def asserted(x: Tensor) -> Tensor:
    torch._assert(x.shape[1] == WIDTH, "as many channels as there were")
    return x


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.view(x.size(0), x.size(1), -1).view(x.shape),
        lambda x: x.reshape(x.shape[0], x.shape[1] * x.shape[2], -1).view(x.size()),
        lambda x: x / (x.shape[2] * x.size(-1)) ** 0.5,
        lambda x: x * x.dim() + x.ndim,
        lambda x: x * torch.arange(x.size(3)),
        asserted,
    ],
)
def test_channels_are_free_where_their_number_only_shapes(cut, function):
    found = cut(Between(function), 3, 4, 4)
    assert found.small.before.out_channels < WIDTH
    assert found.dependencies.left_whole == {}


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda x: x / x.size(1), "self.before(x) / 6"),
        (lambda x: x / x.shape[1] ** 0.5, "self.before(x) / 6**0.5"),
        (lambda x: torch.mul(x, 1 / x.size(dim=-3)), "torch.mul(self.before(x), 1 / 6)"),
    ],
)
def test_a_number_that_a_forward_computes_with_stays_what_it_was(cut, function, text):
    found = cut(Between(function), 3, 4, 4)
    assert found.small.before.out_channels < WIDTH
    assert found.dependencies.left_whole == {}
    assert text in found.text


def test_channels_stay_where_a_tensor_is_made_of_their_number(cut):
    found = cut(Between(lambda x: x * torch.arange(x.size(1)).view(1, -1, 1, 1)), 3, 4, 4)
    assert found.small.before.out_channels == WIDTH
    assert found.dependencies.left_whole == {"before": "arange depends on how many there are"}


def test_channels_stay_where_a_forward_computes_with_the_number_of_places(cut):
    found = cut(Between(lambda x: x + x[0].numel()), 3, 4, 4)
    reason = "add depends on how many there are, and on other sizes"
    assert found.dependencies.left_whole == {"before": reason}


def test_a_size_knows_the_channels_along_its_axis():
    signal = Signal(shaped((2, 3, 5)), np.arange(3).reshape(1, 3, 1))
    assert sizes(signal) == (2, 3, 5)
    assert [len(counted([size])) for size in sizes(signal)] == [0, 1, 0]
    assert counted(sizes(signal))[0] is signal.ids


def test_a_number_keeps_its_value_and_its_kind():
    half = depending(1.5, [np.arange(2)])
    assert isinstance(half, float)
    assert half == 1.5
    assert isinstance(depending(3, []), int)
