"""Stand-ins pass for tensors in Python, and never in torch's own code."""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.utils._device import _device_constructors
from torch.utils.checkpoint import checkpoint

from prunecore.errors import UnsupportedError
from prunecore.tracing.stand_ins.patches import standing_in


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
    before, seen = (builtins.isinstance, Function.apply), []

    def asks(x: Tensor, inner: nn.Module) -> Tensor:
        seen.append(builtins.isinstance)
        return inner(x) if isinstance(x, Tensor) else x

    cut(Net(asks), 3)
    assert {*seen, builtins.isinstance} == {before[0]}
    assert (builtins.isinstance, Function.apply) == before
    assert "isinstance" not in globals()


def of_another_module(text: str) -> dict[str, Any]:
    variables: dict[str, Any] = {"Tensor": Tensor}
    exec(text, variables)
    return variables


IS_TENSOR = "def is_tensor(x): return isinstance(x, Tensor)"


def test_each_module_that_asks_is_answered(cut: Callable[..., Any]) -> None:
    first, other = of_another_module(IS_TENSOR), of_another_module(IS_TENSOR)

    def asks(x: Tensor, inner: nn.Module) -> Tensor:
        if isinstance(x, Tensor) and first["is_tensor"](x) and other["is_tensor"](x):
            return inner(x)
        return x

    assert "x = self.inner(x)" in cut(Net(asks), 3).forward
    assert "isinstance" not in {*first, *other}


def test_code_that_is_made_anew_each_time_is_not_answered(find: Callable[..., Any]) -> None:
    def asks(x: Tensor, inner: nn.Module) -> Tensor:
        return inner(x) if of_another_module(IS_TENSOR)["is_tensor"](x) else x

    with pytest.raises(UnsupportedError, match="in code that it makes anew"):
        find(Net(asks), (2, 3))


def test_devices_by_default_hold_for_what_torch_makes_afterwards() -> None:
    _device_constructors.cache_clear()
    for context in (standing_in([]), contextlib.nullcontext()):
        with context, torch.device("meta"):
            assert torch.zeros(3).is_meta
