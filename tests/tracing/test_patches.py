"""Stand-ins pass for tensors in Python, and never in torch's own code."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.utils.checkpoint import checkpoint

from prunecore.errors import UnsupportedError


class Net(nn.Module):
    """A function of a tensor and a layer, between two layers."""

    def __init__(self, function: Callable[[Tensor, nn.Module], Tensor]) -> None:
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x), self.inner))


class Sign(Function):
    """The sign, and the gradient of its argument."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x, inner: Sign.apply(x), "it calls Sign.apply, which has a gradient of its own"),
        (lambda x, inner: x + torch.as_tensor(x), "cannot be traced"),
        (lambda x, inner: x * torch.as_tensor([1.0, x.sum()])[0], "cannot be traced"),
        (lambda x, inner: x + torch.FloatTensor(x), "cannot be traced"),
    ],
)
def test_a_stand_in_is_no_tensor_in_memory(
    find: Callable[..., Any], function: Any, reason: str
) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        find(Net(function), (2, 3))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_what_is_computed_again_for_the_gradient_is_followed(cut: Callable[..., Any]) -> None:
    result = cut(Net(lambda x, inner: checkpoint(inner, x, use_reentrant=True)), 3)
    assert "x = self.inner(x)" in result.forward
    assert result.keep.dependencies.removable.any()


def test_isinstance_is_as_before_after_a_trace(cut: Callable[..., Any]) -> None:
    before = builtins.isinstance, Function.apply
    cut(Net(lambda x, inner: inner(x) if isinstance(x, Tensor) else x), 3)
    assert (builtins.isinstance, Function.apply) == before
