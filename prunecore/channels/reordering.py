"""Channels whose places a function reorders, or of which it takes some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from prunecore.channels.ids import Ids, along
from prunecore.channels.signal import Grid, Picked, Signal

if TYPE_CHECKING:
    from prunecore.channels.channels import Channels


def reordered(
    channels: Channels, signal: Signal, meta: Tensor, change: Callable[[Ids], Ids]
) -> Signal:
    """The tensor after a function that moves places, such as a reshape or a permutation of axes.

    Channels may come to lie along several axes. As long as only such functions follow, nothing is
    coupled. If they end with the channels along one axis, as those of a channel shuffle do, they
    have reordered its places; if they end in another way, the channels are coupled.

    Args:
        channels: the walk.
        signal: the tensor.
        meta: what the function returns, on the meta device.
        change: does to ids, of size 1 along some axes, what the function does to the tensor.
    """
    ids = change(signal.ids)
    several = sum(size > 1 for size in ids.shape) > 1
    before = signal.origin_as(Grid)
    if before is None:
        if not several:
            return Signal(meta, ids)
        own = [along(axis, signal.ndim, np.arange(n)) for axis, n in enumerate(signal.shape)]
        return Signal(meta, ids, Grid(signal, tuple(map(change, own)), (ids,)))
    coordinates = tuple(map(change, before.coordinates))
    if several:
        return Signal(meta, ids, Grid(before.source, coordinates, (*before.arrangements, ids)))
    axis = next((axis for axis, size in enumerate(ids.shape) if size > 1), 0)
    places = _read(coordinates, meta.shape, axis)
    if places is None:
        return reordered(channels, channels.settle(signal), meta, change)
    return Signal(meta, ids, Picked(before.source, places))


def _read(coordinates: Sequence[Ids], shape: Sequence[int], axis: int) -> Ids | None:
    """How the places along an axis have been reordered, if all that happened is that."""
    if len(coordinates) != len(shape):
        return None
    for other, size in enumerate(shape):
        in_order = along(other, len(shape), np.arange(size))
        if other != axis and not np.array_equal(coordinates[other], in_order):
            return None
    places = coordinates[axis]
    return places.ravel() if places.size == places.shape[axis] else None


def picked(
    channels: Channels, source: Signal, ids: Ids, meta: Tensor, axis: int, places: Ids
) -> Signal:
    """Some places of the axis along which a tensor's channels lie, in some order.

    A part may be cut but not to nothing. A single place has no axis to lie along, and stays.

    Args:
        channels: the walk.
        source: the tensor.
        ids: of the tensor, laid out as those of `meta`; channels lie along this axis alone.
        meta: what the function returns, of the same rank, on the meta device.
        axis: the axis.
        places: their numbers.
    """
    ids = ids.take(places, axis)
    if len(places) == 1:
        channels.pin(ids, "a function takes it alone")
    elif len(places):
        channels.hold_one(ids)
    return Signal(meta, ids, Picked(source, places))
