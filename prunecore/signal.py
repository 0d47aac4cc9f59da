"""A tensor of the forward pass as the walk sees it: its shape, and who is which channel in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ids = NDArray[np.int64]

FIXED = -1  # the id of every place that always stays


@dataclass(frozen=True, eq=False)
class Grid:
    """Channels along several axes of a tensor, which has come of one that has them along one.

    Attributes:
        source: that tensor.
        coordinates: for each axis of that tensor, the place along it that lies at each place of
            this one; shaped as ids are.
        arrangements: the ids of every such tensor on the way here, this one's last.
    """

    source: Signal
    coordinates: tuple[Ids, ...]
    arrangements: tuple[Ids, ...]


@dataclass(frozen=True, eq=False)
class Picked:
    """What a function has taken of a tensor whose channels lie along one axis.

    Attributes:
        source: the tensor.
        places: the numbers of the places along that axis, in their order.
    """

    source: Signal
    places: Ids


@dataclass(frozen=True)
class Way:
    """Where the channels come from with which a computed tensor is followed.

    Attributes:
        parameter: a parameter.
        axis: the axis of it along which they lie.
        alone: whether all other parameters are taken for such without channels, as a gain for
            each row is where the columns are followed.
    """

    parameter: Tensor = field(compare=False)
    axis: int
    alone: bool
    key: tuple[int, int] = field(init=False)  # of the parameter's axis among what is bound

    def __post_init__(self) -> None:
        """Know the parameter by its id, as tensors compare place by place."""
        object.__setattr__(self, "key", (id(self.parameter), self.axis))


@dataclass(frozen=True, eq=False)
class Followed:
    """A computed tensor with channels that lie along one axis, or without any.

    Attributes:
        signal: the tensor.
        way: where they come from; `None` if that is what has been met on the way.
    """

    signal: Signal
    way: Way | None


@dataclass(frozen=True, eq=False)
class Computed:
    """How a tensor is computed of parameters alone, and what channels it turned out to have.

    Attributes:
        function: what returns it.
        args: its arguments, a `Signal` for each tensor.
        kwargs: likewise, by name.
        call: the name of the call in the trace; `None` where that cannot be replayed.
        moves: whether the function only moves or takes places, so that zeros stay zero.
        parts: all tensors that the function returns, this one among them.
        followed: what has been found, for one axis after the other.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    call: str | None
    moves: bool
    parts: list[Signal] = field(default_factory=list)
    followed: list[Followed] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Signal:
    """One tensor of the forward pass.

    Attributes:
        meta: the tensor on the meta device, for its shape.
        ids: the channel at each place: same rank as the tensor, size 1 on axes without channels.
        parameter: the parameter that this is, as long as its ids are to come from what it meets.
        grid: how its channels lie along several axes, where they may go in any pattern.
        picked: the places of another tensor that a function has taken for it.
        computed: how it is computed, if of parameters alone.
    """

    meta: Tensor
    ids: Ids
    parameter: Tensor | None = None
    grid: Grid | None = None
    picked: Picked | None = None
    computed: Computed | None = None

    def __post_init__(self) -> None:
        """Refuse ids that cannot be those of the tensor.

        Raises:
            TypeError: `meta` holds values, or `ids` is not an array of int64.
            ValueError: the shape of `ids` does not fit the tensor's.
        """
        if not (isinstance(self.meta, Tensor) and self.meta.is_meta):
            raise TypeError("the tensor that a Signal stands for is not on the meta device")
        if not (isinstance(self.ids, np.ndarray) and self.ids.dtype == np.int64):
            raise TypeError("the ids of a Signal are not an array of int64")
        sizes, shape = self.ids.shape, self.meta.shape
        if sizes != shape and (
            len(sizes) != len(shape)
            or any(size not in (1, whole) for size, whole in zip(sizes, shape, strict=True))
        ):
            raise ValueError(
                f"ids of shape {sizes} do not fit a tensor of shape {tuple(shape)}: along each "
                "axis there are as many as the tensor has places, or one"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape; the first axis is the batch."""
        return tuple(self.meta.shape)

    @property
    def ndim(self) -> int:
        """The tensor's rank."""
        return self.meta.ndim

    @property
    def channel_axes(self) -> list[int]:
        """The axes along which channels lie."""
        return [axis for axis, size in enumerate(self.ids.shape) if size > 1]

    def carries_channels(self, axis: int) -> bool:
        """Whether channels lie along this axis."""
        return bool(self.ids.shape[axis] > 1)


def without_channels(rank: int) -> Ids:
    """The ids of a tensor in which every place always stays."""
    return np.full((1,) * rank, FIXED, dtype=np.int64)


def are_handed_out(ids: Ids, count: int) -> bool:
    """Whether each of these is `FIXED` or among the `count` ids that were handed out."""
    return not ids.size or bool(ids.min() >= FIXED and ids.max() < count)


def along(axis: int, rank: int, ids: Ids) -> Ids:
    """Lay 1-d ids along one axis of a tensor of this rank."""
    shape = [1] * rank
    shape[axis] = -1
    return ids.reshape(shape)


def shaped(shape: Sequence[int]) -> Tensor:
    """A tensor that has this shape and no storage."""
    return torch.empty(tuple(shape), device="meta")


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
