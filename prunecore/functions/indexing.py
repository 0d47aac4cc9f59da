"""Rules for indexing: functions that take places of a tensor by their number."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from prunecore.channels.ids import Ids, along, without_channels
from prunecore.channels.signal import Computed, Grid, Reduced, Signal
from prunecore.functions.reshaping import alike, picked, still_alike
from prunecore.functions.rule import Arguments, FunctionRule, Operation, Sign, everywhere

if TYPE_CHECKING:
    from prunecore.channels.channels import Channels
    from prunecore.channels.keep import Keep


_CUTS = "a function takes places of it along several axes"


def _index(channels: Channels, operation: Operation) -> Any:
    """Indexing by integers, slices, lists, tensors of whole numbers, `...` and `None`."""
    tensor, index = operation.args
    if not isinstance(tensor, Signal):  # a tuple of them
        return operation.function(tensor, index)
    tensor = channels.plain(tensor, (Grid,))
    items = list(index) if isinstance(index, tuple) else [index]
    items = [numbers_of(item) for item in items]
    gathers = any(map(_is_numbers, items))
    several = not gathers and sum(isinstance(item, list) for item in items) > 1
    if several or any(
        not (isinstance(item, int | slice | list | type(None) | type(...)) or _is_numbers(item))
        for item in items
    ):
        if any(_is_fractional(item) for item in items):
            channels.refuse(
                "its forward indexes a tensor with floating point numbers",
                "Give the network whole numbers: tokens as example inputs, or "
                f"--input 'tokens:int64[128]<{tensor.shape[0]}'.",
            )
        kinds = " and ".join(_kind(item) for item in items)
        channels.refuse(
            f"its forward indexes a tensor with {kinds}",
            "Index with integers, slices, a list or tensors of integers, or give a rule in a "
            "plugin (hook prunecore_functions).",
        )
    items = spread(tensor.ndim, items)
    if any(_is_numbers(item) and not is_stored(item) for item in items):
        tensor = _looked_up(channels, tensor, items)
    return places_at(channels, tensor, items)


def _looked_up(channels: Channels, tensor: Signal, items: Sequence[Any]) -> Signal:
    """A parameter that is a table, of which numbers take rows: new channels along the others."""
    along_axes = zip(tensor.shape, (item for item in items if item is not None), strict=True)
    wide = [item == slice(None) and size > 1 for size, item in along_axes]
    free = [axis for axis, is_wide in enumerate(wide) if is_wide]
    if tensor.parameter is None or tensor.channel_axes or len(free) != 1:
        return tensor
    ids = channels.fresh_of_stored(tensor.shape[free[0]])
    for axis in range(tensor.ndim):
        own = ids if axis == free[0] else None
        channels.bind(tensor.parameter, axis, own, filters=own is not None)
    return Signal(tensor.meta, along(free[0], tensor.ndim, ids))


def spread(rank: int, items: Sequence[Any]) -> list[Any]:
    """The items of an index, one for each axis of a tensor, and `None` for new ones."""
    taken = sum(isinstance(item, int | slice | list | Signal) for item in items)
    rest: list[Any] = [slice(None)] * (rank - taken)
    at = next((place for place, item in enumerate(items) if item is ...), len(items))
    return [*items[:at], *rest, *items[at + 1 :]]


def places_at(channels: Channels, tensor: Signal, items: Sequence[Any]) -> Signal:
    """The tensor at an index.

    Args:
        channels: the walk.
        tensor: any tensor.
        items: of the index, one for each axis, and `None` for new ones; a `Signal` for a tensor.
    """
    given = [_long(item.shape) if isinstance(item, Signal) else item for item in items]
    meta = channels.run(operator.getitem, tensor, tuple(given))
    along_axes = [item for item in items if item is not None]
    alone = [axis for axis, item in enumerate(along_axes) if isinstance(item, int)]
    tensor = channels.settle_beside(tensor, alone)
    gathers = any(isinstance(item, Signal) for item in items)
    return (_gathered if gathers else _indexed)(channels, tensor, meta, items)


def _gathered(channels: Channels, tensor: Signal, meta: Tensor, items: Sequence[Any]) -> Signal:
    """The tensor at an index with tensors in it, whose axes come in the place of one."""
    for item in items:
        if isinstance(item, Signal):
            channels.pin_axes(item, item.channel_axes, "an index")
    axes = [item for item in items if item is not None]
    if any(item != slice(None) for axis, item in enumerate(axes) if tensor.carries_channels(axis)):
        channels.pin(tensor.ids, "a function takes places of it by numbers in a tensor")
        return Signal(meta, without_channels(meta.ndim))
    within = tuple(item if item is None else _only_place(item) for item in items)
    return Signal(meta, np.ascontiguousarray(tensor.ids[within]))


def _only_place(item: Any) -> Any:
    """What takes the one place that ids have along an axis, as an item does of its many."""
    if isinstance(item, Signal):
        return np.zeros((1,) * item.ndim, dtype=np.int64)
    return [0] if isinstance(item, list) else 0 if isinstance(item, int) else slice(None)


def _indexed(channels: Channels, tensor: Signal, meta: Tensor, items: Sequence[Any]) -> Signal:
    """The tensor at an index that has an item for each axis, and `None` for new ones."""
    cuts = None  # the axis of the result, and what is taken along it
    axis = 0
    shape: list[int] = []  # of the ids, before that
    for item in items:
        size = 1 if item is None else tensor.ids.shape[axis]
        if item is not None and size > 1 and item != slice(None):
            cuts = (len(shape), item)
        if not isinstance(item, int) or size > 1:
            shape.append(size)
        axis += item is not None
    laid = tensor.ids.reshape(shape)
    if cuts is None:
        within = tuple(item if item is None else _only_place(item) for item in items)
        return Signal(meta, laid, still_alike(tensor, meta, lambda ids: ids[within]))
    axis, item = cuts
    if len(tensor.channel_axes) > 1:
        channels.pin(tensor.ids, _CUTS)
        return Signal(meta, without_channels(meta.ndim))
    places = np.arange(laid.shape[axis])[item]
    if isinstance(item, int):
        return _alone(channels, tensor, laid, meta, axis, int(places))
    return picked(channels, tensor, laid, meta, axis, places)


def _alone(
    channels: Channels, source: Signal, ids: Ids, meta: Tensor, axis: int, place: int
) -> Signal:
    """A single place, whose axis is gone."""
    kept = picked(channels, source, ids, meta.unsqueeze(axis), axis, np.array([place]))
    return Signal(meta, kept.ids.reshape([1] * meta.ndim), kept.origin)


def numbers_of(item: Any) -> Any:
    """An index as numbers, where it is a list or a stored tensor of such."""
    if isinstance(item, Signal):
        stored = item.parameter
        if stored is None or stored.ndim != 1 or stored.is_floating_point() or stored.is_meta:
            return item
        item = stored.tolist()
    if isinstance(item, list | tuple) and all(isinstance(number, int) for number in item):
        is_mask = all(isinstance(number, bool) for number in item)
        return np.flatnonzero(item).tolist() if is_mask else list(item)
    return item


def is_stored(item: Any) -> bool:
    """True if it is a buffer of numbers; how large they are need not be known."""
    stored = item.parameter if isinstance(item, Signal) else None
    return stored is not None and stored.dtype in (torch.int64, torch.int32)


def _is_numbers(item: Any) -> bool:
    """True if it is a tensor of whole numbers, stored or computed."""
    return isinstance(item, Signal) and item.meta.dtype in (torch.int64, torch.int32)


def _is_fractional(item: Any) -> bool:
    return isinstance(item, Signal) and item.meta.is_floating_point()


def _long(shape: Sequence[int]) -> Tensor:
    return torch.empty(tuple(shape), dtype=torch.int64, device="meta")


def _kind(item: Any) -> str:
    """What an index is, for a message: a tensor's own text would fill pages."""
    return "a tensor" if isinstance(item, Signal) else repr(item)


def _along_dim(
    place: int, name: str = "dim", default: int | None = 0, alone: bool = False
) -> FunctionRule:
    """The rule of a function that takes places along one axis, given as an argument.

    Args:
        place: of the argument.
        name: of the argument.
        default: of the argument.
        alone: whether it takes them one by one.
    """

    def calculate(channels: Channels, operation: Operation) -> Any:
        tensor = operation.tensor
        result = operation.run(channels)
        dims = operation.argument(place, name, default)
        dims = range(tensor.ndim) if dims is None else [dims] if isinstance(dims, int) else dims
        axes = [dim % tensor.ndim for dim in dims]
        if alone:
            tensor = channels.settle_beside(tensor, axes)
        else:
            tensor = _settled_for_runs(channels, tensor, axes)
        cut = [axis for axis in axes if tensor.carries_channels(axis)]
        if cut and (len(axes) > 1 or len(tensor.channel_axes) > 1):
            channels.pin(tensor.ids, _CUTS)
            tensor = Signal(tensor.meta, without_channels(tensor.ndim))
            cut = []
        if isinstance(result, Tensor):
            places = operation.on(_numbered(tensor, axes[0])) if cut else None
            return _part(channels, tensor, result, axes[0], places)
        parts = operation.on(_numbered(tensor, axes[0])) if cut else [None] * len(result)
        return tuple(
            _part(channels, tensor, meta, axes[0], places)
            for meta, places in zip(result, parts, strict=True)
        )

    return FunctionRule(calculate, understands=(Grid,), reorders=True)


def _settled_for_runs(channels: Channels, tensor: Signal, axes: Sequence[int]) -> Signal:
    """A tensor of which runs of places are taken along an axis.

    Attention's heads stay apart where what is within them lies last, as halves of a rotary
    embedding do; else the axis with the most channels.
    """
    along_channels = tensor.channel_axes
    if len(along_channels) < 2 or tensor.ndim - 1 in axes:
        return channels.settle(tensor)
    return channels.settle(tensor, max(along_channels, key=lambda axis: tensor.shape[axis]))


def _numbered(tensor: Signal, axis: int) -> Tensor:
    """The number of each place along an axis, laid along it."""
    return torch.from_numpy(along(axis, tensor.ndim, np.arange(tensor.shape[axis])))


def _part(
    channels: Channels, tensor: Signal, meta: Tensor, axis: int, places: Tensor | None
) -> Signal:
    """A part of a tensor along an axis; `places` is `None` where no channels lie along it."""
    if places is not None and meta.ndim < tensor.ndim:
        return _alone(channels, tensor, tensor.ids, meta, axis, int(places))
    if places is not None:
        return picked(channels, tensor, tensor.ids, meta, axis, places.numpy().ravel())
    if meta.ndim == tensor.ndim:
        return Signal(meta, tensor.ids)
    return Signal(meta, tensor.ids.squeeze(axis))


def _index_select(channels: Channels, operation: Operation) -> Signal:
    tensor, meta = operation.tensor, operation.run(channels)
    dim: int = operation.argument(1, "dim")
    items: list[Any] = [slice(None)] * tensor.ndim
    items[dim] = numbers_of(operation.argument(2, "index"))
    if not isinstance(items[dim], list):
        channels.refuse(
            "its forward selects places by numbers that it computes",
            "Store them in a buffer, or give a rule in a plugin (hook prunecore_functions).",
        )
    return _indexed(channels, tensor, meta, items)


def _repeat_interleave(channels: Channels, operation: Operation) -> Signal:
    """Each place so many times; without an axis, of the tensor laid out in one row."""
    tensor, meta = operation.tensor, operation.run(channels)
    repeats, dim = operation.argument(1, "repeats"), operation.argument(2, "dim")
    if dim is None or not isinstance(repeats, int):
        channels.pin(tensor.ids, "repeat_interleave counts it")
        return Signal(meta, without_channels(meta.ndim))
    if not tensor.carries_channels(dim):
        return Signal(meta, tensor.ids, alike(channels, tensor, meta, tensor.ids))
    return Signal(meta, np.repeat(tensor.ids, repeats, dim))


def _write_repeats(arguments: Arguments, result: Signal, keep: Keep) -> Arguments:
    """How often a single place is there, along an axis that is as wide as what it meets."""
    args, keywords = arguments
    given = keywords["repeats"] if "repeats" in keywords else args[1]
    if result.filled_axis is None or not isinstance(given, int):
        return arguments
    repeats = keep.size(result, result.filled_axis)
    if "repeats" in keywords:
        return args, {**keywords, "repeats": repeats}
    return (args[0], repeats, *args[2:]), keywords


def _flip(channels: Channels, operation: Operation) -> Signal:
    """The places of some axes in reverse order, which is that of the kept ones, too."""
    ids = np.ascontiguousarray(operation.on(torch.from_numpy(operation.tensor.ids)).numpy())
    return Signal(operation.run(channels), ids)


def _shuffle(channels: Channels, operation: Operation) -> Signal:
    """The channels of the groups in turn."""
    tensor, meta = operation.tensor, operation.run(channels)
    if tensor.channel_axes != [1]:
        return channels.pin_axes(tensor, tensor.channel_axes, operation.name)
    places = np.arange(tensor.shape[1]).reshape(operation.argument(1, "groups"), -1).T.ravel()
    return picked(channels, tensor, tensor.ids, meta, 1, places)


RULES: Mapping[Callable[..., Any], FunctionRule] = {
    operator.getitem: FunctionRule(
        _index, understands=(Grid, Reduced, Computed), reorders=True, sign=Sign("[]", 9, "access")
    ),
    **everywhere("chunk split split_with_sizes tensor_split", _along_dim(2)),
    **everywhere("unbind", _along_dim(1, alone=True)),
    **everywhere("select", replace(_along_dim(1, alone=True), takes="one")),
    **everywhere("narrow", replace(_along_dim(1), takes="run")),
    **everywhere("roll", _along_dim(2, "dims", None)),
    **everywhere("index_select", FunctionRule(_index_select)),
    **everywhere("repeat_interleave", FunctionRule(_repeat_interleave, _write_repeats)),
    **everywhere("flip fliplr flipud rot90", FunctionRule(_flip)),
    **everywhere("channel_shuffle native_channel_shuffle", FunctionRule(_shuffle)),
}
