"""`Signal`, a tensor of the forward pass in a walk: its shape, and the channel at each place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunecore.channels.ids import Ids


@dataclass(frozen=True, eq=False)
class Stored:
    """A parameter or buffer of the network, whose channels are to come from what it meets.

    Attributes:
        tensor: the parameter or buffer.
    """

    tensor: Tensor


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
    """Places that a function has taken of a tensor whose channels lie along one axis.

    Attributes:
        source: the tensor.
        places: the numbers of the places along that axis, in the order of the result; shape
            `(width,)`.
    """

    source: Signal
    places: Ids


@dataclass(frozen=True, eq=False)
class Reduced:
    """What a function has made of all places along an axis of channels, such as their sum.

    Attributes:
        ids: the channels, shape `(places,)`.
        tells: why these stay where it tells places by their numbers, as `argmax` does.
    """

    ids: Ids
    tells: str | None = None


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
        path: of the module whose forward calls it.
        call: the name of the call in the trace; `None` where that cannot be replayed.
        reorders: whether the function only reorders or takes places, so that zeros stay zero.
        parts: all tensors that the function returns, this one among them.
        followed: what has been found, for one axis after the other.
        before: the origin that the tensor has besides, where its channels were known at once.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    path: str
    call: str | None
    reorders: bool
    parts: list[Signal] = field(default_factory=list)
    followed: list[Followed] = field(default_factory=list)
    before: Stored | Grid | Picked | Reduced | Sized | Filled | Expanded | None = None


@dataclass(frozen=True, eq=False)
class Sized:
    """A tensor of parameters that is asked for its sizes before its channels are known.

    Attributes:
        along: the channels that will lie along each axis, shape `(size,)` each; no channels along
            an axis that counts none.
    """

    along: tuple[Ids, ...]


@dataclass(eq=False)
class Filled:
    """A tensor that a forward fills with one number, as `torch.zeros` does.

    All of its places are alike, so that it is as wide as what it meets. The call that makes it
    states the width once: along a single axis, and only where nothing else asks for its shape.

    Attributes:
        axis: along which it has met channels.
        ids: these channels, shape `(width,)`; `None` as long as it has met none.
        meetings: how often it has met channels.
        is_whole: whether it stays as it is, as something else uses it.
    """

    axis: int = 0
    ids: Ids | None = None
    meetings: int = 0
    is_whole: bool = False


@dataclass(frozen=True, eq=False)
class Expanded:
    """A tensor all of whose places along some axes are alike, as `expand` makes them.

    Along one of these it is as wide as what it meets.

    Attributes:
        axes: the axes, and those of the tensor that the call makes which states the width.
        filled: what it has met.
    """

    axes: Mapping[int, int]
    filled: Filled


# What is known of where a tensor comes from, besides its channels.
Origin: TypeAlias = Stored | Grid | Picked | Reduced | Computed | Sized | Filled | Expanded
Kind = TypeVar("Kind", Stored, Grid, Picked, Reduced, Computed, Sized, Filled, Expanded)


@dataclass(frozen=True, eq=False)
class Signal:
    """One tensor of the forward pass.

    Attributes:
        meta: the tensor on the meta device, for its shape.
        ids: the channel at each place: same rank as the tensor, size 1 on axes without channels.
        origin: where it comes from, if that is a parameter, or a tensor of which it is known how
            this one's places lie in it. A function's result has none unless its rule gives it one.
        is_given: whether it is computed of parameters alone, and handed on to a module.
    """

    meta: Tensor
    ids: Ids
    origin: Origin | None = None
    is_given: bool = False

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

    def origin_as(self, kind: type[Kind]) -> Kind | None:
        """Its origin, if that is of this kind."""
        origin = self.origin
        if isinstance(origin, kind):
            return origin
        before = origin.before if isinstance(origin, Computed) else None
        return before if isinstance(before, kind) else None

    @property
    def parameter(self) -> Tensor | None:
        """The parameter or buffer that this is, as long as its ids come from what it meets."""
        stored = self.origin_as(Stored)
        return None if stored is None else stored.tensor

    @property
    def is_of_weights(self) -> bool:
        """True if it is a parameter or buffer, or computed of such alone."""
        return self.is_given or isinstance(self.origin, Stored | Computed | Sized)

    @property
    def computed(self) -> Computed | None:
        """How it is computed, if of parameters alone."""
        return self.origin if isinstance(self.origin, Computed) else None

    @property
    def filled(self) -> Filled | None:
        """What it has met, if all of its places are alike, or those along an axis."""
        expanded = self.origin_as(Expanded)
        return expanded.filled if expanded else self.origin_as(Filled)

    @property
    def filled_axis(self) -> int | None:
        """The axis along which all of its places are alike and have met channels, if any."""
        filled, expanded = self.filled, self.origin_as(Expanded)
        if filled is None or filled.ids is None or filled.is_whole:
            return None
        if expanded is None:
            return filled.axis
        return next((own for own, axis in expanded.axes.items() if axis == filled.axis), None)

    def has_met(self, axis: int) -> Ids | None:
        """The channels, shape `(width,)`, that a filled tensor has met along this axis, if any."""
        filled = self.filled
        return filled.ids if filled and self.filled_axis == axis else None

    def may_be_cut(self, axis: int) -> bool:
        """True if channels lie along this axis, or have met it where it is filled."""
        return self.carries_channels(axis) or self.has_met(axis) is not None

    def carries_channels(self, axis: int) -> bool:
        """True if channels lie along this axis; `axis` may count from the last."""
        return bool(self.ids.shape[axis] > 1)


def map_leaves(change: Callable[[Any], Any], values: Any) -> Any:
    """What `tree_map` of torch makes of values, quicker for those that most calls are given."""
    kind = type(values)
    if kind in _LEAVES:
        return change(values)
    if kind is tuple or kind is list:
        return kind([map_leaves(change, value) for value in values])
    if kind is dict:
        return {key: map_leaves(change, value) for key, value in values.items()}
    return pytree.tree_map(change, values)


def leaves_of(values: Any) -> list[Any]:
    """What `tree_leaves` of torch finds in values, quicker for those that most calls are given."""
    kind = type(values)
    if kind in _LEAVES:
        return [values]
    if kind is dict:
        values = values.values()
    elif kind is not tuple and kind is not list:
        return pytree.tree_leaves(values)
    return [leaf for value in values for leaf in leaves_of(value)]


_LEAVES = {Signal, Tensor, nn.Parameter, int, float, bool, str, type(None)}


def map_signals(change: Callable[[Signal], Any], values: Any) -> Any:
    """Values with others in the places of the signals in them."""
    return map_leaves(lambda leaf: change(leaf) if isinstance(leaf, Signal) else leaf, values)


def shaped(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor that has this shape and no storage."""
    return torch.empty(tuple(shape), dtype=dtype, device="meta")


def kind_of(tensor: Tensor) -> torch.dtype:
    """The type that a tensor is followed in: all that have a fraction are alike."""
    return torch.float32 if tensor.is_floating_point() else tensor.dtype
