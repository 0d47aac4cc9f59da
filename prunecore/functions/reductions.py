"""Rules for reductions and other functions that see the places along an axis together."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from prunecore.channels.ids import without_channels
from prunecore.channels.layers.over_kept import over_kept
from prunecore.channels.signal import Grid, Reduced, Signal, shaped
from prunecore.functions.rule import FunctionRule, Operation, elementwise, everywhere

if TYPE_CHECKING:
    from prunecore.channels.channels import Channels


_TELLING = "max min median nanmedian"  # the number of the place as well, along an axis


def _reduce(channels: Channels, operation: Operation, place: int = 1) -> Any:
    """A reduction: along channels it is one over those that are kept.

    Args:
        channels: the walk.
        operation: the call.
        place: of the argument `dim`.
    """
    tensor = operation.tensor
    dims = operation.argument(place, "dim", operation.kwargs.get("axis"))
    if isinstance(dims, Signal):  # torch.max and torch.min of two tensors
        return elementwise(channels, operation)
    result = operation.run(channels)
    dims = range(tensor.ndim) if dims is None else [dims] if isinstance(dims, int) else dims
    axes = {dim % tensor.ndim for dim in dims}
    tensor = channels.settle_beside(tensor, axes)
    mixed = next((axis for axis in axes if tensor.carries_channels(axis)), None)
    ids, reduced = tensor.ids, None
    if mixed is not None:
        reduced = channels.axis(tensor, mixed)
        assert reduced is not None
        over_kept = functools.partial(_reduce_kept, operation.function, mixed)
        channels.masked_function(reduced, over_kept)
        ids = without_channels(tensor.ndim)
    metas = [result] if isinstance(result, Tensor) else list(result)
    if metas[0].ndim != tensor.ndim:
        ids = ids.reshape([size for axis, size in enumerate(ids.shape) if axis not in axes])
    last = len(metas) - 1
    tells = operation.name.startswith("arg") or (last == 1 and operation.name in _TELLING.split())
    mixes = f"{operation.name} mixes it"
    origins = [
        None if reduced is None else Reduced(reduced, mixes if tells and number == last else None)
        for number in range(len(metas))
    ]
    signals = [Signal(meta, ids, origin) for meta, origin in zip(metas, origins, strict=True)]
    return signals[0] if isinstance(result, Tensor) else type(result)(signals)


def _reduce_kept(
    function: Callable[..., Any],
    axis: int,
    kept: Tensor,
    /,
    input: Tensor,
    *args: Any,
    **kwargs: Any,
) -> Any:
    return function(input.index_select(axis, kept), *args, **kwargs)


def _mixes_along_dim(channels: Channels, operation: Operation) -> Signal:
    """Softmax and its like: what lies along `dim` sees each other, and is left whole."""
    tensor = operation.tensor
    dim = operation.argument(1, "dim")
    axes = range(tensor.ndim) if dim is None else [dim % tensor.ndim]
    return channels.pin_axes(tensor, axes, operation.name)


def _norm(channels: Channels, operation: Operation) -> Any:
    """A norm of vectors, whose order comes before the axes."""
    return _reduce(channels, operation, place=2)


def _sort(place: int) -> FunctionRule:
    """The rule of a function that compares the places along `dim`, the last axis unless told.

    Args:
        place: of the argument `dim`.
    """

    def calculate(channels: Channels, operation: Operation) -> Any:
        tensor, result = operation.tensor, operation.run(channels)
        axis = operation.argument(place, "dim", -1) % tensor.ndim
        ids = channels.pin_axes(tensor, [axis], operation.name).ids
        if isinstance(result, Tensor):
            return Signal(result, ids)
        return type(result)([Signal(meta, ids) for meta in result])

    return FunctionRule(calculate)


def _normalize(channels: Channels, operation: Operation) -> Signal:
    """Divides by a norm; along the channels, by that of the kept ones."""
    tensor = operation.tensor
    dim = operation.argument(2, "dim", 1)
    if not isinstance(dim, int):
        return channels.pin_axes(tensor, dim, operation.name)
    tensor = channels.settle_beside(tensor, [dim % tensor.ndim])
    ids = channels.axis(tensor, dim)
    channels.masked_function(ids, functools.partial(over_kept, F.normalize, dim))
    origin = None if ids is None else Reduced(ids)
    return Signal(shaped(tensor.shape), tensor.ids, origin)


def _triangle(channels: Channels, operation: Operation) -> Signal:
    """A part of the last two axes; what lies along these is left whole."""
    tensor = operation.tensor
    return channels.pin_axes(tensor, [tensor.ndim - 2, tensor.ndim - 1], operation.name)


RULES: Mapping[Callable[..., Any], FunctionRule] = {
    **everywhere(
        "mean sum amax amin std var prod logsumexp all any max min argmax argmin median nanmean "
        "nansum var_mean std_mean count_nonzero nanmedian",
        FunctionRule(_reduce, understands=(Grid,)),
    ),
    **everywhere("norm", FunctionRule(_norm, understands=(Grid,))),
    torch.linalg.vector_norm: FunctionRule(_norm, understands=(Grid,)),
    **everywhere("sort argsort", _sort(1)),
    **everywhere("topk", _sort(2)),
    F.normalize: FunctionRule(_normalize, understands=(Grid,)),
    **everywhere("tril triu", FunctionRule(_triangle)),
    **everywhere("softmax log_softmax softmin cumsum cumprod", FunctionRule(_mixes_along_dim)),
}
