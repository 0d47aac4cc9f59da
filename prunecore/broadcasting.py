"""How the channels of two tensors meet when the tensors are broadcast together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from prunecore.signal import Signal, along, shaped, without_channels

if TYPE_CHECKING:
    from prunecore.algebra import Algebra

_CROSSWISE = "it meets channels that lie along another axis"


def broadcast_together(channels: Algebra, a: Signal, b: Signal) -> Signal:
    """Couple two tensors where they meet after broadcasting; the result's `Signal`.

    Channels that meet a size of 1 pass it; channels that meet others become one with them; those
    that meet places that always stay, or channels along another axis, are left whole.
    """
    shape = channels.run(torch.broadcast_shapes, a.shape, b.shape)
    a, b = _adopt(channels, a, b), _adopt(channels, b, a)
    a_ids, b_ids = (s.ids.reshape((1,) * (len(shape) - s.ndim) + s.ids.shape) for s in (a, b))
    a_shape, b_shape = ((1,) * (len(shape) - s.ndim) + s.shape for s in (a, b))
    a_axes = {axis for axis in range(len(shape)) if a_ids.shape[axis] > 1}
    b_axes = {axis for axis in range(len(shape)) if b_ids.shape[axis] > 1}
    if a_axes == b_axes:
        if a_axes:
            channels.join(a_ids, b_ids)
        ids = a_ids
    elif a_axes and b_axes and (a.parameter is None) != (b.parameter is None):
        # a parameter's places make no channels: what it meets keeps its own
        ids, crossing = (a_ids, b_ids) if a.parameter is None else (b_ids, a_ids)
        channels.pin(crossing, _CROSSWISE)
    elif a_axes and b_axes:
        for meets in (a_ids, b_ids):
            channels.pin(meets, _CROSSWISE)
        ids = without_channels(len(shape))
    else:
        ids, axes, other = (a_ids, a_axes, b_shape) if a_axes else (b_ids, b_axes, a_shape)
        if any(other[axis] > 1 for axis in axes):
            channels.pin(
                ids, "it meets a tensor of which everything stays, such as the network's input"
            )
    return Signal(shaped(shape), ids)


def _adopt(channels: Algebra, signal: Signal, other: Signal) -> Signal:
    """A parameter takes its ids from what it meets."""
    offset = signal.ndim - other.ndim
    axes = other.channel_axes
    if signal.parameter is None or len(axes) != 1 or axes[0] + offset < 0:
        return signal
    axis = axes[0] + offset
    if signal.shape[axis] != other.shape[axes[0]]:
        return signal
    ids = other.ids.ravel()
    channels.bind(signal.parameter, axis, ids)
    return Signal(signal.meta, along(axis, signal.ndim, ids))
