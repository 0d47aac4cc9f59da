"""Rules for reductions and other functions that see the places along an axis together."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from prunecore.channels.ids import Ids, without_channels
from prunecore.channels.over_kept import over_kept
from prunecore.channels.signal import Signal, shaped
from prunecore.functions.rule import FunctionRule, Operation, elementwise, everywhere

if TYPE_CHECKING:
    from prunecore.channels.channels import Channels


def _reduce(channels: Channels, operation: Operation, place: int = 1) -> Any:
    """A reduction: channels that it mixes are left whole.

    Args:
        channels: the walk.
        operation: the call.
        place: of the argument `dim`.
    """
    tensor = operation.tensor
    dims = operation.argument(place, "dim")
    if isinstance(dims, Signal):  # torch.max and torch.min of two tensors
        return elementwise(channels, operation)
    result = operation.run(channels)
    dims = range(tensor.ndim) if dims is None else [dims] if isinstance(dims, int) else dims
    axes = {dim % tensor.ndim for dim in dims}
    ids = _mixed(channels, operation, axes)
    metas = [result] if isinstance(result, Tensor) else list(result)
    if metas[0].ndim != tensor.ndim:
        ids = ids.reshape([size for axis, size in enumerate(ids.shape) if axis not in axes])
    signals = [Signal(meta, ids) for meta in metas]
    return signals[0] if isinstance(result, Tensor) else type(result)(signals)


def _mixed(channels: Channels, operation: Operation, axes: Collection[int]) -> Ids:
    """The channels that are left; those that are mixed are whole, unless they are a weight's."""
    tensor = operation.tensor
    carried = [axis for axis in axes if tensor.carries_channels(axis)]
    if not channels.follows_weights or len(carried) != 1:
        return channels.pin_axes(tensor, axes, operation.name).ids
    reduce_kept = functools.partial(_reduce_kept, operation.function, carried[0])
    channels.masked_function(channels.axis(tensor, carried[0]), reduce_kept)
    return without_channels(tensor.ndim)


def _reduce_kept(
    function: Callable[..., Any], axis: int, kept: Tensor, input: Tensor, *args: Any, **kwargs: Any
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
    ids = channels.axis(tensor, dim)
    channels.masked_function(ids, functools.partial(over_kept, F.normalize, dim))
    return Signal(shaped(tensor.shape), tensor.ids)


RULES: Mapping[Callable[..., Any], FunctionRule] = {
    **everywhere(
        "mean sum amax amin std var prod logsumexp all any max min argmax argmin median nanmean "
        "nansum var_mean std_mean count_nonzero",
        FunctionRule(_reduce),
    ),
    **everywhere("norm", FunctionRule(_norm)),
    torch.linalg.vector_norm: FunctionRule(_norm),
    **everywhere("sort argsort", _sort(1)),
    **everywhere("topk", _sort(2)),
    F.normalize: FunctionRule(_normalize),
    **everywhere("softmax log_softmax softmin cumsum cumprod", FunctionRule(_mixes_along_dim)),
}
