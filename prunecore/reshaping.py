"""The rules for functions that reshape tensors, rearrange their axes, or put them together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from prunecore.functions import Arguments, FunctionRule, Operation, everywhere
from prunecore.signal import Signal, along, shaped, without_channels

if TYPE_CHECKING:
    from prunecore.channels import Channels
    from prunecore.keep import Keep


def _reshape(channels: Channels, operation: Operation) -> Signal:
    return channels.reshape(operation.tensor, operation.run(channels))


def _expand(channels: Channels, operation: Operation) -> Signal:
    """Places repeated along axes of size 1, and along new ones before the others."""
    tensor, meta = operation.tensor, operation.run(channels)
    added = meta.ndim - tensor.ndim
    parameter = None if added else tensor.parameter
    return Signal(meta, tensor.ids.reshape((1,) * added + tensor.ids.shape), parameter)


def _write_sizes(arguments: Arguments, result: Signal, keep: Keep) -> Arguments:
    """Literal sizes of a reshape: those that count channels become the kept widths."""
    (tensor, *sizes), keywords = arguments
    for key in keywords.keys() & {"shape", "size"}:
        keywords[key] = _kept_sizes(keywords[key], 0, result, keep)
    if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
        sizes = [type(sizes[0])(_kept_sizes(sizes[0], 0, result, keep))]
    else:
        sizes = _kept_sizes(sizes, 0, result, keep)
    return (tensor, *sizes), keywords


def _write_unflatten(arguments: Arguments, result: Signal, keep: Keep) -> Arguments:
    (tensor, dim, sizes), keywords = arguments
    first = dim if dim >= 0 else dim + result.ndim - len(sizes) + 1
    return (tensor, dim, tuple(_kept_sizes(sizes, first, result, keep))), keywords


def _kept_sizes(sizes: Sequence[Any], first: int, result: Signal, keep: Keep) -> list[Any]:
    return [
        keep.size(result, axis)
        if type(size) is int and size != -1 and result.carries_channels(axis)
        else size
        for axis, size in enumerate(sizes, start=first)
    ]


def _rearrange(channels: Channels, operation: Operation) -> Signal:
    """Axes change places: the ids' axes do the same."""
    ids = operation.on(torch.from_numpy(operation.tensor.ids)).numpy()
    return Signal(operation.run(channels), ids)


def _concatenate(channels: Channels, operation: Operation) -> Signal:
    tensors: Sequence[Signal] = operation.argument(0, "tensors")
    dim = operation.argument(1, "dim", 0) % tensors[0].ndim
    meta = channels.run(torch.cat, [tensor.meta for tensor in tensors], dim)
    if not any(tensor.carries_channels(dim) for tensor in tensors):
        return Signal(meta, channels.couple(*(_without(tensor, dim) for tensor in tensors)).ids)
    if any(tensor.channel_axes not in ([dim], []) for tensor in tensors):
        for tensor in tensors:
            channels.pin(tensor.ids, "it is concatenated with channels along another axis")
        return Signal(meta, without_channels(meta.ndim))
    parts = [np.broadcast_to(tensor.ids.ravel(), (tensor.shape[dim],)) for tensor in tensors]
    return Signal(meta, along(dim, meta.ndim, np.concatenate(parts)))


def _without(tensor: Signal, dim: int) -> Signal:
    """A tensor as if one axis had size 1, to be coupled along the others."""
    shape = [1 if axis == dim else size for axis, size in enumerate(tensor.shape)]
    return Signal(shaped(shape), tensor.ids)


def _stack(channels: Channels, operation: Operation) -> Signal:
    tensors: Sequence[Signal] = operation.argument(0, "tensors")
    dim = operation.argument(1, "dim", 0) % (tensors[0].ndim + 1)
    meta = channels.run(torch.stack, [tensor.meta for tensor in tensors], dim)
    return Signal(meta, np.expand_dims(channels.couple(*tensors).ids, dim))


RULES: Mapping[Callable[..., Any], FunctionRule] = {
    **everywhere("flatten squeeze unsqueeze", FunctionRule(_reshape)),
    **everywhere("reshape view", FunctionRule(_reshape, _write_sizes)),
    **everywhere("expand", FunctionRule(_expand, _write_sizes)),
    **everywhere("unflatten", FunctionRule(_reshape, _write_unflatten)),
    **everywhere(
        "permute transpose swapaxes swapdims movedim moveaxis t", FunctionRule(_rearrange)
    ),
    **everywhere("cat concat concatenate", FunctionRule(_concatenate)),
    **everywhere("stack", FunctionRule(_stack)),
}
