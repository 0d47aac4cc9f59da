"""Checks of values in a forward are left out: it is followed the way that does not raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunecore import UnsupportedError


class Net(nn.Module):
    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.first(x)))


ASSERTS = """
def asserts(x):
    assert x.isfinite().all()
    assert not torch.isnan(x).any(), "not a number"
    assert x.abs().max() < 1e9 and x.softmax(1).max() <= 1, f"too large: {x.max()}"
    return x * 2
"""


def asserts(x: Tensor) -> Tensor:
    """Asserts as Python has it: pytest has a way of its own, for the tests."""
    variables: dict[str, Any] = {"torch": torch}
    exec(ASSERTS, variables)
    return variables["asserts"](x)  # type: ignore[no-any-return]


def raises(x: Tensor) -> Tensor:
    if torch.isnan(x).any():
        raise ValueError(f"not a number in {x.shape}")
    if not x.isfinite().all().item():
        raise ValueError
    return x * 2


def raises_otherwise(x: Tensor) -> Tensor:
    if x.isfinite().all():
        x = x * 2
    else:
        raise ValueError("not a number")
    return x


@pytest.mark.parametrize("between", [asserts, raises, raises_otherwise])
def test_what_only_checks_values_is_left_out(
    cut: Callable[..., Any], between: Callable[[Tensor], Tensor]
) -> None:
    result = cut(Net(between), 3, 4, 4)
    assert result.forward == "x = self.first(x) * 2\nreturn self.last(x)"
    assert result.keep.dependencies.removable.any()


def chosen(x: Tensor) -> Tensor:
    if x.max() > 1:
        x = x / x.max()
    return x


def kept(x: Tensor) -> Tensor:
    large = not x.max() < 1
    return x * 2 if large else x


def warns(x: Tensor) -> Tensor:
    if x.max() > 1:
        for _ in range(2):
            x = x / 2
        raise ValueError
    return x


@pytest.mark.parametrize("between", [chosen, kept, warns, lambda x: x * 2 if x.max() > 1 else x])
def test_what_does_something_by_values_is_refused(
    find: Callable[..., Any], between: Callable[[Tensor], Tensor]
) -> None:
    with pytest.raises(UnsupportedError, match="used as inputs to control flow"):
        find(Net(between), (2, 3, 4, 4))
