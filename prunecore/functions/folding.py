"""Rules for functions that fold channels into one another, or into maps and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from prunecore.channels.ids import Ids, along, without_channels
from prunecore.channels.signal import Signal
from prunecore.functions.rule import FunctionRule, Operation, everywhere

if TYPE_CHECKING:
    from prunecore.channels.channels import Channels


def _glu(channels: Channels, operation: Operation) -> Signal:
    """The first half of an axis, gated by the second: a channel goes with its gate."""
    tensor = operation.tensor
    dim = operation.argument(1, "dim", -1) % tensor.ndim
    # the halves taken apart: glu itself has torch import its decompositions, to tell a shape
    meta = channels.run(lambda x: x.unflatten(dim, (2, -1)).select(dim, 0), tensor)
    ids = channels.axis(tensor, dim)
    if ids is None:
        return Signal(meta, tensor.ids)
    value, gate = ids.reshape(2, -1)
    channels.join(value, gate)
    return Signal(meta, along(dim, tensor.ndim, _held(channels, value)))


def _pixel_shuffle(channels: Channels, operation: Operation) -> Signal:
    """A square of channels becomes one larger map: they go together."""
    meta = operation.run(channels)
    tensor = channels.pin_axes(operation.tensor, (-1, -2), operation.name)
    axis = tensor.ndim - 3
    ids = channels.axis(tensor, axis)
    if ids is None:
        return Signal(meta, tensor.ids)
    squares = _coupled(channels, ids.reshape(meta.shape[axis], -1))
    return Signal(meta, along(axis, tensor.ndim, squares))


def _pixel_unshuffle(channels: Channels, operation: Operation) -> Signal:
    """A map becomes a square of smaller ones, which are one channel still."""
    meta = operation.run(channels)
    tensor = channels.pin_axes(operation.tensor, (-1, -2), operation.name)
    axis = tensor.ndim - 3
    ids = channels.axis(tensor, axis)
    if ids is None:
        return Signal(meta, tensor.ids)
    squares = meta.shape[axis] // len(ids)
    return Signal(meta, along(axis, tensor.ndim, np.repeat(ids, squares)))


def _unfold(channels: Channels, operation: Operation) -> Signal:
    """The places under a window become channels of their own, which are one channel still."""
    meta = operation.run(channels)
    tensor = channels.pin_axes(operation.tensor, (-1, -2), operation.name)
    ids = channels.axis(tensor, tensor.ndim - 3)
    if ids is None:
        return Signal(meta, without_channels(meta.ndim))
    places = meta.shape[-2] // len(ids)
    return Signal(meta, along(meta.ndim - 2, meta.ndim, np.repeat(ids, places)))


def _fold(channels: Channels, operation: Operation) -> Signal:
    """The places of a window are summed into one map: they go together."""
    meta = operation.run(channels)
    tensor = channels.pin_axes(operation.tensor, [-1], operation.name)
    ids = channels.axis(tensor, tensor.ndim - 2)
    if ids is None:
        return Signal(meta, without_channels(meta.ndim))
    windows = _coupled(channels, ids.reshape(meta.shape[-3], -1))
    return Signal(meta, along(meta.ndim - 3, meta.ndim, windows))


def _windows(channels: Channels, operation: Operation) -> Signal:
    """Windows along one axis, on an axis of their own behind the others."""
    meta = operation.run(channels)
    tensor = channels.pin_axes(operation.tensor, [operation.argument(1, "dimension")], "unfold")
    return Signal(meta, tensor.ids[..., None])


def _coupled(channels: Channels, groups: Ids) -> Ids:
    """The channels that the rows of `groups` become, each of which goes as a whole."""
    channels.join(np.broadcast_to(groups[:, :1], groups.shape), groups)
    return _held(channels, groups[:, 0])


def _held(channels: Channels, ids: Ids) -> Ids:
    """A tensor's channels, of which one has to stay; a single one has no axis to lie along."""
    ids = np.ascontiguousarray(ids)
    if len(ids) == 1:
        channels.pin(ids, "it makes a single channel")
    else:
        channels.hold_one(ids)
    return ids


RULES: Mapping[Callable[..., Any], FunctionRule] = {
    **everywhere("glu", FunctionRule(_glu)),
    F.pixel_shuffle: FunctionRule(_pixel_shuffle),
    F.pixel_unshuffle: FunctionRule(_pixel_unshuffle),
    F.unfold: FunctionRule(_unfold),
    F.fold: FunctionRule(_fold),
    Tensor.unfold: FunctionRule(_windows),
}
