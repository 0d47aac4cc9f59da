"""Rules for assignment: places of a tensor get other values, `y[:, 0:2] = z`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from prunecore.channels.ids import FIXED, without_channels
from prunecore.channels.signal import Computed, Signal, shaped
from prunecore.errors import a_kind
from prunecore.functions.indexing import is_stored, numbers_of, places_at, spread
from prunecore.functions.rule import FunctionRule, Operation, Sign, everywhere

if TYPE_CHECKING:
    from prunecore.channels.channels import Channels


def _assign(channels: Channels, operation: Operation) -> Signal:
    """Assignment at integers, slices, a list, masks and computed indices, `...` and `None`.

    What is set has the channels of the tensor, and couples the value with them.

    Returns:
        The places that are set, which stand for the call, as that returns nothing.
    """
    tensor, index, value = operation.args
    if not isinstance(tensor, Signal):
        channels.refuse(
            f"its forward sets an item of {a_kind(tensor)}",
            "Make a new one of what it holds.",
        )
    tensor = _known(channels, tensor)
    items = _items(channels, index)
    masks = {number: item for number, item in enumerate(items) if _is_mask(item)}
    # what takes places along an axis, it is not known how many: all of them are set alike
    ones = {number: [_one() for _ in range(mask.ndim)] for number, mask in masks.items()}
    items = [one for number, item in enumerate(items) for one in ones.get(number, [item])]
    items = spread(tensor.ndim, items)
    axes = [item for item in items if item is not None]
    first_axes = {
        number: next(axis for axis, item in enumerate(axes) if item is stand_ins[0])
        for number, stand_ins in ones.items()
    }
    several = isinstance(value, Signal) and value.meta.numel() > 1
    if _meet_masks(
        channels, tensor, [(masks[number], axis) for number, axis in first_axes.items()]
    ):
        for each in (tensor, value) if several else ():
            channels.pin(each.ids, "a mask says which of its places are set")
        return Signal(shaped(()), without_channels(0))
    computed = [
        axis for axis, item in enumerate(axes) if isinstance(item, Signal) and not item.ndim
    ]
    tensor = channels.pin_axes(tensor, computed, "an assignment to a computed place")
    items = [0 if isinstance(item, Signal) and not item.ndim else item for item in items]
    part = places_at(channels, tensor, items)
    if several:
        _meet(channels, part, value)
    return part


_KINDS = (int, slice, list, type(None), type(...), Signal)


def _items(channels: Channels, index: Any) -> list[Any]:
    """The items of an index, tensors among them with their channels known.

    Raises:
        UnsupportedError: it is none that is followed.
    """
    items = [numbers_of(item) for item in (index if isinstance(index, tuple) else (index,))]
    ends = [end for item in items if isinstance(item, slice) for end in (item.start, item.stop)]
    if (
        any(type(item) is bool or not isinstance(item, _KINDS) for item in items)
        or sum(isinstance(item, list) for item in items) > 1
        or any(isinstance(end, Signal) for end in ends)
    ):
        channels.refuse(
            "its forward sets places of a tensor by several lists, or by what is no index",
            "Set them by integers, slices, a list, or a mask.",
        )
    known = [channels.whole(item) if isinstance(item, Signal) else item for item in items]
    for item in known:
        if isinstance(item, Signal) and item.channel_axes and not _is_mask(item):
            channels.pin(item.ids, "places of a tensor are set by it")
    return known


def _meet_masks(channels: Channels, tensor: Signal, masks: Sequence[tuple[Signal, int]]) -> bool:
    """Couple a tensor with masks over some of its axes, each with the first axis that it is over.

    Returns:
        Whether channels lie along any of these axes.
    """
    carries = False
    for mask, first in masks:
        after = tensor.ndim - first - mask.ndim
        carries |= any(tensor.carries_channels(first + axis) for axis in range(mask.ndim))
        shape, ids = ((1,) * first + own + (1,) * after for own in (mask.shape, mask.ids.shape))
        channels.couple(tensor, Signal(shaped(shape), mask.ids.reshape(ids)))
    return carries


def _known(channels: Channels, tensor: Signal) -> Signal:
    """A tensor whose channels are known: a stored one stays whole, or what it is computed of."""
    stored = tensor.parameter
    if stored is None:
        return channels.whole(tensor)
    for axis, size in enumerate(stored.shape):
        if size > 1:
            channels.bind(stored, axis, np.full(size, FIXED, dtype=np.int64))
    return Signal(tensor.meta, without_channels(tensor.ndim))


def _is_mask(item: Any) -> bool:
    """True if an index is a mask of several axes; a trace has no computed numbers of these.

    One of a single axis takes places of that axis whatever it is.
    """
    return isinstance(item, Signal) and item.ndim > 1 and not is_stored(item)


def _one() -> Signal:
    """The index of a single place."""
    return Signal(shaped((1,)), without_channels(1))


def _meet(channels: Channels, part: Signal, value: Signal) -> None:
    """Couple what is set with its value, which may have more axes in front."""
    if value.ndim > part.ndim:
        value = channels.whole(value)
        first = (0,) * (value.ndim - part.ndim)
        value = Signal(value.meta[first], value.ids[first])
    channels.couple(*channels.meeting([part, value]))


def _index_put(channels: Channels, operation: Operation) -> Signal:
    """Assignment as a function, which returns the tensor."""
    index = tuple(operation.argument(1, "indices"))
    tensor, axis = _known(channels, operation.tensor), 0
    for item in index:
        count = item.ndim if _is_mask(item) else 1
        tensor = channels.pin_axes(tensor, range(axis, axis + count), operation.name)
        axis += count
    _assign(
        channels, Operation(operator.setitem, (tensor, index, operation.argument(2, "values")), {})
    )
    return Signal(shaped(tensor.shape), tensor.ids)


def _scatter(channels: Channels, operation: Operation) -> Signal:
    """Places along one axis get the values of a tensor, or one value; the other axes meet.

    Channels along that axis, and those of what has other sizes than the tensor, are left whole.
    """
    dim: int = operation.argument(1, "dim")
    tensor = _known(channels, operation.tensor)
    tensor = channels.pin_axes(tensor, [dim], operation.name)
    for name, place in (("index", 2), ("src", 3), ("source", 3)):
        other = operation.argument(place, name)
        if not isinstance(other, Signal) or other.ndim != tensor.ndim or not other.ndim:
            continue
        other = channels.pin_axes(channels.whole(other), [dim], operation.name)
        sides = [_without(one, dim) for one in (tensor, other)]
        if sides[0].shape == sides[1].shape:
            channels.couple(*sides)
            continue
        for side in sides:
            channels.pin(side.ids, f"{operation.name} meets it with fewer places")
    return Signal(operation.run(channels), tensor.ids)


def _without(tensor: Signal, dim: int) -> Signal:
    """A tensor as if one axis had size 1, to be coupled along the others."""
    shape = list(tensor.shape)
    shape[dim] = 1
    return Signal(shaped(shape), tensor.ids)


RULES: Mapping[Callable[..., Any], FunctionRule] = {
    operator.setitem: FunctionRule(
        _assign, understands=(Computed,), sign=Sign("[] =", 0, "assignment")
    ),
    **everywhere("index_put", FunctionRule(_index_put, understands=(Computed,))),
    **everywhere(
        "scatter scatter_add scatter_reduce index_add index_copy index_fill", FunctionRule(_scatter)
    ),
}
