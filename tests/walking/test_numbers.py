"""Assertions of two shapes stay for the sizes along which no channels lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunecore.tracing.guards import GUARD


class Net(nn.Module):
    """A branch on the shapes of two maps."""

    def __init__(self, branch: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.inner, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1), nn.Linear(6, 2)
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = F.interpolate(F.max_pool2d(self.inner(x), 2), scale_factor=2)
        return self.last(self.branch(x, y).mean((2, 3)))


def resized(x: Tensor, y: Tensor) -> Tensor:
    if y.size() != x.size():
        y = F.interpolate(y, size=x.size()[2:])
    return x + y


def kept(x: Tensor, y: Tensor) -> Tensor:
    return x + y if x.shape == y.shape else x


@pytest.mark.parametrize("branch", [resized, kept])
@pytest.mark.parametrize("side", [4, 5])
def test_shapes_are_compared_behind_the_channels(
    cut: Callable[..., Any], branch: Any, side: int
) -> None:
    result = cut(Net(branch), 3, side, 4)
    assert result.keep.dependencies.removable.any()
    assert result.forward.count("[-2:]") == 2
    assert f" {'==' if branch is kept else '!='} " in result.forward
    assert GUARD not in result.forward
    other = torch.rand(2, 3, 9 - side, 4, dtype=torch.float64)  # the other way
    assert result.small(other).shape == (2, 2)


def test_shapes_of_other_widths_need_no_assertion(cut: Callable[..., Any]) -> None:
    def always(x: Tensor, y: Tensor) -> Tensor:
        return y if x[:, :5].shape == y.shape else x + y

    assert GUARD not in cut(Net(always), 3, 4, 4).forward
