"""Rules for concatenation: functions that put tensors beside each other or stack them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from prunecore.channels.ids import along, without_channels
from prunecore.channels.signal import Computed, Filled, Signal, Stored, shaped
from prunecore.functions.rule import FunctionRule, Operation, everywhere

if TYPE_CHECKING:
    from prunecore.channels.channels import Channels


def _concatenate(channels: Channels, operation: Operation) -> Signal:
    tensors: Sequence[Signal] = operation.argument(0, "tensors")
    dim = operation.argument(1, "dim", 0) % tensors[0].ndim
    meta = channels.run(torch.cat, [tensor.meta for tensor in tensors], dim)
    if all(tensor.channel_axes in ([dim], []) for tensor in tensors):
        tensors = [_of_own_width(channels, tensor, dim) for tensor in tensors]
    if not any(tensor.carries_channels(dim) for tensor in tensors):
        met = [_without(tensor, dim) for tensor in channels.meeting(tensors)]
        met.sort(key=lambda tensor: not tensor.channel_axes)  # parameters take theirs from others
        return Signal(meta, channels.couple(*met).ids)
    if channels.follows_weights:
        tensors = [_of_own(channels, tensor, dim) for tensor in channels.meeting(tensors)]
    else:
        tensors = [channels.whole(tensor) for tensor in tensors]
    if any(tensor.channel_axes not in ([dim], []) for tensor in tensors):
        for tensor in tensors:
            channels.pin(tensor.ids, "it is concatenated with channels along another axis")
        return Signal(meta, without_channels(meta.ndim))
    parts = [np.broadcast_to(tensor.ids.ravel(), (tensor.shape[dim],)) for tensor in tensors]
    return Signal(meta, along(dim, meta.ndim, np.concatenate(parts)))


def _concatenate_along(dim: int) -> FunctionRule:
    """The rule of a function that concatenates along one axis, of tensors that have it."""

    def calculate(channels: Channels, operation: Operation) -> Signal:
        tensors: Sequence[Signal] = operation.argument(0, "tensors")
        if any(tensor.ndim <= dim for tensor in tensors):
            channels.refuse(
                f"its forward calls {operation.name} with tensors of too few axes",
                "Concatenate them with torch.cat.",
            )
        return _concatenate(channels, Operation(torch.cat, (tensors, dim), {}))

    return FunctionRule(calculate, understands=(Computed,))


def _of_own_width(channels: Channels, tensor: Signal, dim: int) -> Signal:
    """A tensor that is filled with one number, with channels of its own that may meet others."""
    filled = tensor.origin_as(Filled)
    if filled is None or filled.is_whole or tensor.shape[dim] == 1:
        return tensor
    known = tensor.has_met(dim)
    own = channels.fresh(tensor.shape[dim]) if known is None else known
    return channels.couple(Signal(tensor.meta, along(dim, tensor.ndim, own)), tensor)


def _of_own(channels: Channels, tensor: Signal, dim: int) -> Signal:
    """A parameter beside others that channels lie along: it has some of its own."""
    if tensor.parameter is None or tensor.channel_axes or tensor.shape[dim] == 1:
        return tensor
    key = (id(tensor.parameter), dim)
    own = channels.records.bindings.get(key)
    own = channels.fresh(tensor.shape[dim]) if own is None else own
    channels.bind(tensor.parameter, dim, own)
    return Signal(tensor.meta, along(dim, tensor.ndim, own))


def _without(tensor: Signal, dim: int) -> Signal:
    """A tensor as if one axis had size 1, to be coupled along the others."""
    shape = [1 if axis == dim else size for axis, size in enumerate(tensor.shape)]
    origin = tensor.origin_as(Stored) or tensor.origin_as(Filled)
    return Signal(shaped(shape, tensor.meta.dtype), tensor.ids, origin)


def _stack(channels: Channels, operation: Operation) -> Signal:
    tensors: Sequence[Signal] = operation.argument(0, "tensors")
    dim = operation.argument(1, "dim", 0) % (tensors[0].ndim + 1)
    meta = channels.run(torch.stack, [tensor.meta for tensor in tensors], dim)
    return Signal(meta, np.expand_dims(channels.couple(*tensors).ids, dim))


RULES: Mapping[Callable[..., Any], FunctionRule] = {
    **everywhere("cat concat concatenate", FunctionRule(_concatenate, understands=(Computed,))),
    **everywhere("hstack column_stack", _concatenate_along(1)),
    **everywhere("vstack", _concatenate_along(0)),
    **everywhere("dstack", _concatenate_along(2)),
    **everywhere("stack", FunctionRule(_stack)),
}
