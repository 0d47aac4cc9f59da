"""Functions with a gradient of their own, called in a forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunecore.errors import UnsupportedError
from prunecore.tracing.stand_ins.autograd_functions import Applied

LEAST = 0.1


def raised(x: Tensor) -> Tensor:
    return x.clamp(min=LEAST)


class Rounded(torch.autograd.Function):
    """Rounds, and lets gradients through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, steps: int) -> Tensor:
        return (raised(x) * steps).round() / steps

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 8, 1)
        self.rounded = nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(Rounded.apply(self.rounded(self.before(x)), 4))


def test_its_text_is_written_with_all_that_it_uses(cut: Callable[..., Any]) -> None:
    result = cut(Net(), 3, 4, 4, strict=False)
    assert result.dependencies.left_whole == {
        "rounded": "no rule says what Rounded.apply does to it"
    }
    assert "x = Rounded.apply(self.rounded(x), 4)" in result.forward
    assert "LEAST = 0.1\n\n\ndef raised(x: Tensor) -> Tensor:" in result.text
    x = torch.rand(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    result.small(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 0  # rounding itself has no gradient


class Holding(Net):
    """Calls it by an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.round = Rounded.apply

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.round(self.rounded(self.before(x)), 4))


def test_an_attribute_may_hold_it(cut: Callable[..., Any]) -> None:
    result = cut(Holding(), 3, 4, 4, strict=False)
    assert list(result.dependencies.left_whole) == ["rounded"]
    assert "x = Rounded.apply(self.rounded(x), 4)" in result.forward


def test_it_is_refused_where_all_is_to_be_understood(find: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedError, match=r"its forward calls Rounded\.apply, and there is"):
        find(Net(), (2, 3, 4, 4))


def test_calls_of_one_function_are_alike() -> None:
    assert Applied(Rounded) == Applied(Rounded)
    assert Applied(Rounded)(torch.tensor([0.3]), 2).tolist() == [0.5]
