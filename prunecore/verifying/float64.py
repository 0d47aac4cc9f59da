"""What a forward makes of no tensor, in float64 as everything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

_WIDER = {torch.float32: torch.float64, torch.complex64: torch.complex128}


_CONVERSIONS = ("float", "cfloat", "type")  # which say the type by their names, or in a word


class InFloat64(TorchFunctionMode):
    """While it is active, what torch makes in this thread of float32 by default is of float64.

    That is what has no tensor of floating point to take its type from, and is given none:
    `torch.zeros(3)`, `torch.tensor(0.1)`, a quotient of whole numbers. The process's default type,
    which other threads go by, stays as it is. As under any such mode, torch's transformer layers
    call the layers within them, and not their fused form.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a function, and once more in float64 where it took the default type."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not isinstance(result, Tensor) or result.dtype not in _WIDER:
            return result
        leaves = pytree.tree_leaves((args, kwargs))
        if getattr(func, "__name__", "") in _CONVERSIONS or any(map(_says_a_type, leaves)):
            return result
        return _wider(func, args, kwargs, result)


def _says_a_type(value: Any) -> bool:
    """Whether an argument is a type, or has one of floating point."""
    if isinstance(value, Tensor):
        return value.is_floating_point() or value.is_complex()
    is_array = isinstance(value, np.ndarray | np.generic)
    return isinstance(value, torch.dtype) or (is_array and value.dtype.kind in "fc")


def _wider(func: Any, args: Any, kwargs: Mapping[str, Any], result: Tensor) -> Tensor:
    """What a function makes where its default is float64.

    Args:
        func: the function.
        args: what it is called with.
        kwargs: likewise, by name.
        result: what it has made in float32.
    """
    dtype = _WIDER[result.dtype]
    whole = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    try:
        if not whole:
            made: Tensor = func(*args, **{**kwargs, "dtype": dtype})
        else:
            args, kwargs = pytree.tree_map_only(Tensor, _in_float64, (args, kwargs))
            made = func(*args, **kwargs)
    except (RuntimeError, TypeError):  # it takes no such type: a condition of `torch.where`
        return result.to(dtype)
    return made if made.dtype is dtype else result.to(dtype)


def _in_float64(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype is torch.bool else tensor.to(torch.float64)
