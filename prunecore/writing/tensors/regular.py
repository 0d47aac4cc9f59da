"""Tensors of regular numbers, such as position ids, as the calls that make them."""

from __future__ import annotations

import torch
from torch import Tensor

from prunecore.writing.text import Call, Name, one_line


def regular(tensor: Tensor) -> Call | None:
    """The call that makes a tensor of evenly spaced whole numbers, or a triangle of ones.

    Args:
        tensor: of any shape; sizes of 1 do not matter.

    Returns:
        The call; `None` where the tensor is neither.
    """
    values = tensor.squeeze()
    made = _row(values) if values.ndim == 1 else _triangle(values) if values.ndim == 2 else None
    if made is None or values.ndim == tensor.ndim:
        return made
    return Call(f"{one_line(made)}.view", tuple(tensor.shape))


def _row(values: Tensor) -> Call | None:
    if values.dtype not in (torch.int64, torch.int32) or len(values) < 2:
        return None
    start, step = int(values[0]), int(values[1] - values[0])
    end = start + step * len(values)
    if not step or not torch.equal(values, torch.arange(start, end, step, dtype=values.dtype)):
        return None
    bounds = (start, end, step) if step != 1 else (start, end) if start else (end,)
    return Call("torch.arange", bounds, _dtype(values, torch.int64))


def _triangle(values: Tensor) -> Call | None:
    ones = torch.ones_like(values)
    for name in ("tril", "triu"):
        if torch.equal(values, getattr(ones, name)()):
            call = Call("torch.ones", tuple(values.shape), _dtype(values, torch.float32))
            return Call(f"{one_line(call)}.{name}")
    return None


def _dtype(values: Tensor, default: torch.dtype) -> dict[str, Name]:
    return {} if values.dtype is default else {"dtype": Name(str(values.dtype))}
