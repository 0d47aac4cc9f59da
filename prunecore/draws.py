"""Random numbers taken as their mean, so that networks of other widths draw alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten


class Means(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is active, every draw is the mean of what is drawn from.

    A dropout then keeps everything as it is, as does a branch that training leaves out at random.
    """

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation, or what stands for one that draws."""
        mean = _MEANS.get(func)
        return func(*args, **(kwargs or {})) if mean is None else mean(*args)


def _uniform(x: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    return x.fill_((low + high) / 2)


def _normal(x: Tensor, mean: float = 0.0, _deviation: float = 1.0) -> Tensor:
    return x.fill_(mean)


def _dropped(x: Tensor, _p: float, _training: bool | None) -> tuple[Tensor, Tensor]:
    return x.clone(), torch.ones_like(x, dtype=torch.bool)


def _leaky(x: Tensor, _noise: Tensor, low: float, high: float, *_: Any) -> Tensor:
    return F.leaky_relu(x, (float(low) + float(high)) / 2)


_MEANS: Mapping[Any, Callable[..., Any]] = {
    _aten.bernoulli.default: lambda x: x.clone(),
    _aten.bernoulli.p: torch.full_like,
    _aten.bernoulli_.float: lambda x, p=0.5: x.fill_(p),
    _aten.bernoulli_.Tensor: lambda x, p: x.copy_(p),
    _aten.native_dropout.default: _dropped,
    _aten.normal_.default: _normal,
    _aten.rand_like.default: lambda x: torch.full_like(x, 0.5),
    _aten.randn_like.default: torch.zeros_like,
    _aten.rrelu_with_noise.default: _leaky,
    _aten.uniform_.default: _uniform,
}
