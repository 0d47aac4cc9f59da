"""Reshapes to a size that is read off a tensor with other channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor, nn

WIDTH, SIZE = 6, 4


class Two(nn.Module):
    """Two layers of equal width whose channels have nothing to do with each other."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, WIDTH, 1), nn.Conv2d(WIDTH, WIDTH, 1)
        self.after = nn.Conv2d(WIDTH, 2, 1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        left = self.left(x)
        return self.after(self.function(left, self.right(left)))


def by_shape(x: Tensor, y: Tensor) -> Tensor:
    b, c, h, w = x.shape
    return y.flatten(2).tanh().reshape(b, c, h, w)


def by_tuple(x: Tensor, y: Tensor) -> Tensor:
    return y.flatten(2).tanh().view((x.size(0), x.size(1), SIZE, SIZE))


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (by_shape, "reshape(getitem, 3, getitem2, getitem3)"),
        (by_tuple, "view(x.size(0), 3, 4, 4)"),
    ],
)
def test_the_size_is_a_number_where_the_two_are_cut_otherwise(
    cut_to: Callable[..., Any], function: Callable[..., Tensor], text: str
) -> None:
    kept = {"left": [0, 2], "right": [1, 2, 5]}
    assert text in cut_to(Two(function), kept, 3, SIZE, SIZE).forward


def test_the_size_stays_as_it_is_where_the_two_are_cut_alike(cut_to: Callable[..., Any]) -> None:
    kept = {"left": [0, 2], "right": [1, 2]}
    assert "shape[1]" in cut_to(Two(by_shape), kept, 3, SIZE, SIZE).forward


def test_instances_of_a_class_are_written_alike(cut_to: Callable[..., Any]) -> None:
    net = nn.Sequential(Two(by_shape), nn.Conv2d(2, 3, 1), Two(by_shape))
    kept = {"0.left": [0, 2], "0.right": [1, 2], "2.left": [0, 2], "2.right": [1, 2, 3]}
    text = cut_to(net, kept, 3, SIZE, SIZE).text
    assert "reshape(getitem, self.width, getitem2, getitem3)" in text
    assert "super().__init__(Two(2), nn.Conv2d(2, 3, 1), Two(3))" in text
