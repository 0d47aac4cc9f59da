"""Arrays of channel ids: the identity of the channel at each place of a tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


FIXED = -1  # the id of every place that always stays


def without_channels(rank: int) -> Ids:
    """The ids of a tensor in which every place always stays."""
    return np.full((1,) * rank, FIXED, dtype=np.int64)


def are_handed_out(ids: Ids, count: int) -> bool:
    """True if each id, of any shape, is `FIXED` or within `[0, count)`."""
    return not ids.size or bool(ids.min() >= FIXED and ids.max() < count)


def counted(ids: Ids) -> tuple[Ids, Ids]:
    """The different ids, in ascending order, and at how many places each lies.

    Args:
        ids: shape `(places,)`.
    """
    if (ids[1:] > ids[:-1]).all():  # as layers mostly make them, and told sooner than by sorting
        return ids, np.ones_like(ids)
    return np.unique(ids, return_counts=True)


def along(axis: int, rank: int, ids: Ids) -> Ids:
    """Lay 1-d ids along one axis of a tensor of this rank."""
    shape = [1] * rank
    shape[axis] = -1
    return ids.reshape(shape)


def reshape_ids(ids: Ids, old: Sequence[int], new: Sequence[int]) -> Ids:
    """Do to ids what a row-major reshape from `old` to `new` does to the tensor.

    Axes that merge are broadcast over what they merge with.

    Returns:
        Ids of rank `len(new)`, of size 1 along every axis along which they do not differ.
    """
    full: list[int] = []  # ids' shape, the axes that carry channels or merge with one at full size
    result: list[int] = []
    for old_axes, new_axes in _matching_axes(old, new):
        carries = any(ids.shape[axis] > 1 for axis in old_axes)
        full += [old[axis] if carries else 1 for axis in old_axes]
        result += [new[axis] if carries else 1 for axis in new_axes]
    ids = without_repetition(np.broadcast_to(ids, full).reshape(result))
    return np.array(ids)  # copied, as a broadcast array is read-only, which torch warns of


def without_repetition(ids: Ids) -> Ids:
    """Ids of size 1 along every axis along which they do not differ."""
    for axis in range(ids.ndim):
        first = ids.take([0], axis)
        if ids.shape[axis] > 1 and (ids == first).all():
            ids = first
    return ids


def _matching_axes(old: Sequence[int], new: Sequence[int]) -> list[tuple[range, range]]:
    """The smallest runs of old and new axes that hold equally many places each."""
    runs = []
    i = j = 0
    while i < len(old) or j < len(new):
        start_i, start_j = i, j
        places_old = places_new = 1
        if i < len(old):
            places_old, i = old[i], i + 1
        if j < len(new):
            places_new, j = new[j], j + 1
        while places_old != places_new:
            if places_old < places_new:
                places_old, i = places_old * old[i], i + 1
            else:
                places_new, j = places_new * new[j], j + 1
        runs.append((range(start_i, i), range(start_j, j)))
    return runs


def one_channel_axis(ids: Ids, couple: Callable[[Ids, Ids], None], apart: int | None = None) -> Ids:
    """Couple ids so that they differ along one axis at most, and drop the repetition.

    What is kept must be a rectangle then: `couple` is called for the pairs that have to go
    together, across all axes but one.

    Args:
        ids: of a tensor.
        couple: called with the pairs.
        apart: the axis along which they stay apart; without one, that which leaves most channels.
    """
    axes = [axis for axis, size in enumerate(ids.shape) if size > 1]
    best = max(axes, key=lambda axis: _channels_along(ids, axis), default=None)
    best = apart if apart in axes else best
    for axis in axes:
        if axis != best:
            first = ids.take([0], axis)
            couple(np.broadcast_to(first, ids.shape), ids)
            ids = first
    return ids


def _channels_along(ids: Ids, axis: int) -> int:
    """How many different ids lie along the first line in the direction of an axis."""
    return len(np.unique(np.moveaxis(ids, axis, 0).reshape(ids.shape[axis], -1)[:, 0]))
