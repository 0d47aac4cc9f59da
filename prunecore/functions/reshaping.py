"""The rules for functions that reshape tensors, rearrange their axes, or repeat them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from prunecore.channels.coupling import meet_filled
from prunecore.channels.ids import Ids, along, reshape_ids, without_channels
from prunecore.channels.signal import Expanded, Filled, Grid, Origin, Picked, Signal, Stored, shaped
from prunecore.channels.sizes import Count
from prunecore.functions.rule import Arguments, FunctionRule, Operation, everywhere
from prunecore.inputs import BATCH

if TYPE_CHECKING:
    from prunecore.channels.channels import Channels
    from prunecore.channels.keep import Keep


def _reshape(channels: Channels, operation: Operation) -> Signal:
    tensor, meta = operation.tensor, operation.run(channels)
    change = functools.partial(_reshaped, tensor.shape, tuple(meta.shape))
    return reordered(channels, tensor, meta, change)


def _reshaped(old: Sequence[int], new: Sequence[int], ids: Ids) -> Ids:
    return reshape_ids(ids, old, new)


def write_sizes(arguments: Arguments, result: Signal, keep: Keep) -> Arguments:
    """Literal sizes of a reshape: those that count channels become the kept widths."""
    args, keywords = arguments
    for key in keywords.keys() & {"shape", "size"}:
        keywords[key] = kept_sizes(keywords[key], 0, result, keep)
    if len(args) > 1 and isinstance(args[1], tuple | list):
        return (args[0], kept_sizes(args[1], 0, result, keep), *args[2:]), keywords
    return (*args[:1], *kept_sizes(args[1:], 0, result, keep)), keywords


def _write_unflatten(arguments: Arguments, result: Signal, keep: Keep) -> Arguments:
    args, keywords = arguments
    dim, sizes = (
        keywords[name] if name in keywords else args[place]
        for place, name in ((1, "dim"), (2, "sizes"))
    )
    if not isinstance(sizes, tuple | list):  # all are computed
        return arguments
    first = dim if dim >= 0 else dim + result.ndim - len(sizes) + 1
    kept = tuple(kept_sizes(sizes, first, result, keep))
    if "sizes" in keywords:
        return args, {**keywords, "sizes": kept}
    return (*args[:2], kept), keywords


def kept_sizes(sizes: Any, first: int, result: Signal, keep: Keep) -> Any:
    """Sizes along the axes from the first one on; as they are where all are computed."""
    if not isinstance(sizes, tuple | list):
        return sizes
    kept = [
        keep.size(result, axis)
        if isinstance(size, int) and size != -1 and result.may_be_cut(axis)
        else size
        for axis, size in enumerate(sizes, start=first)
    ]
    return tuple(kept) if isinstance(sizes, tuple) else kept


def _rearrange(channels: Channels, operation: Operation) -> Signal:
    """Axes change places: the ids' axes do the same."""
    return reordered(
        channels,
        operation.tensor,
        operation.run(channels),
        lambda ids: np.ascontiguousarray(operation.on(torch.from_numpy(ids)).numpy()),
    )


def _reshape_as(channels: Channels, operation: Operation) -> Signal:
    """To the shape of another tensor, which stays its shape only if the two are cut alike."""
    other: Signal = operation.argument(1, "other")
    reshaped = channels.reshape(operation.tensor, operation.run(channels))
    return Signal(reshaped.meta, channels.couple(reshaped, other).ids)


def _same_places(channels: Channels, operation: Operation) -> Signal:
    """Another copy of the tensor; whole numbers that are stored stay known where it is detached."""
    tensor = operation.tensor
    alike = tensor.origin_as(Filled) or tensor.origin_as(Expanded)
    origin: Origin | None = tensor.origin_as(Grid) or alike
    if operation.name == "detach" and not tensor.meta.is_floating_point():
        origin = origin or tensor.origin_as(Stored)
    return Signal(shaped(tensor.shape, tensor.meta.dtype), tensor.ids, origin)


def _expand(channels: Channels, operation: Operation) -> Signal:
    """Axes of size 1 become longer, and new ones stand before the others.

    Where a new size is a number of channels, the axis carries these; else it is as wide as what it
    meets.
    """
    tensor, meta = operation.tensor, operation.run(channels)
    added = meta.ndim - tensor.ndim
    ids = tensor.ids.reshape((1,) * added + tensor.ids.shape)
    if ids.size == 1:
        ids = _counting(operation, meta)
    stored = None if added else tensor.origin_as(Stored)
    known = stored or _alike_before(tensor, meta)
    return Signal(meta, ids, known or alike(channels, tensor, meta, ids))


def _alike_before(tensor: Signal, meta: Tensor) -> Expanded | None:
    """The axes of a filled tensor that are as long as before it was expanded."""
    filled, expanded = tensor.filled, tensor.origin_as(Expanded)
    if filled is None:
        return None
    added = meta.ndim - tensor.ndim
    of_calls = expanded.axes if expanded else {axis: axis for axis in range(tensor.ndim)}
    axes = {
        axis + added: of_call
        for axis, of_call in of_calls.items()
        if tensor.shape[axis] == meta.shape[axis + added] > 1
    }
    return Expanded(axes, filled) if axes else None


def alike(channels: Channels, tensor: Signal, meta: Tensor, ids: Ids) -> Expanded | None:
    """That all places along the one axis that has become longer are alike.

    Args:
        channels: the walk.
        tensor: what has been expanded or repeated.
        meta: the result, on the meta device.
        ids: of the result.
    """
    before = (1,) * (meta.ndim - tensor.ndim) + tensor.shape
    longer = [axis for axis, size in enumerate(before) if size != meta.shape[axis]]
    if len(longer) != 1 or before[longer[0]] != 1 or ids.shape[longer[0]] != 1:
        return None
    own = channels.fresh(meta.shape[longer[0]])
    return Expanded({longer[0]: longer[0]}, Filled(longer[0], own))


def _counting(operation: Operation, meta: Tensor) -> Ids:
    """The channels that one of the sizes among the arguments counts, along its axis."""
    sizes = operation.argument(1, "size")
    sizes = sizes if isinstance(sizes, tuple | list) else operation.args[1:]
    return counted_by(sizes, meta)


def counted_by(sizes: Sequence[Any], meta: Tensor) -> Ids:
    """The channels that one of the sizes of a tensor counts, along its axis."""
    for axis, size in enumerate(sizes):
        if isinstance(size, Count) and len(size.ids) == 1:
            ids = size.ids[0].ravel()
            if len(ids) == meta.shape[axis]:
                return along(axis, meta.ndim, ids)
    return without_channels(meta.ndim)


def _expand_as(channels: Channels, operation: Operation) -> Signal:
    other: Signal = operation.argument(1, "other")
    return Signal(operation.run(channels), channels.couple(operation.tensor, other).ids)


def _repeat(channels: Channels, operation: Operation) -> Signal:
    """The places of each axis again and again, new axes in front of them."""
    tensor, meta = operation.tensor, operation.run(channels)
    ids = operation.on(torch.from_numpy(tensor.ids)).numpy()
    offset = meta.ndim - tensor.ndim
    for axis in range(meta.ndim):
        if axis < offset or not tensor.carries_channels(axis - offset):
            ids = ids.take([0], axis)
    return Signal(meta, np.ascontiguousarray(ids), alike(channels, tensor, meta, ids))


def _write_repeats(arguments: Arguments, result: Signal, keep: Keep) -> Arguments:
    """How often a single place is there, along an axis that is as wide as what it meets."""
    args, keywords = arguments
    axis = result.filled_axis
    if axis is None:
        return arguments
    several = next((key for key in ("repeats", "dims") if key in keywords), None)
    given = keywords[several] if several else args[1:]
    inner = given[0] if not several and isinstance(given[0], tuple | list) else given
    place = axis - result.ndim + len(inner)
    repeats = [
        keep.size(result, axis) if n == place and isinstance(one, int) else one
        for n, one in enumerate(inner)
    ]
    if several:
        return args, {**keywords, several: tuple(repeats)}
    return (args[0], *([tuple(repeats)] if inner is given[0] else repeats)), keywords


def _as_complex(channels: Channels, operation: Operation) -> Signal:
    """The last axis, of two places, becomes one number."""
    meta = operation.run(channels)
    tensor = channels.settle_beside(operation.tensor, [operation.tensor.ndim - 1])
    tensor = channels.pin_axes(tensor, [tensor.ndim - 1], operation.name)
    return Signal(meta, tensor.ids[..., 0])


def _as_real(channels: Channels, operation: Operation) -> Signal:
    """A number becomes two, along a last axis."""
    return Signal(operation.run(channels), operation.tensor.ids[..., None])


_REORDERS = FunctionRule(_reshape, understands=(Grid,), reorders=True)


RULES: Mapping[Callable[..., Any], FunctionRule] = {
    **everywhere("flatten ravel squeeze unsqueeze", _REORDERS),
    **everywhere("reshape view", replace(_REORDERS, rewrite=write_sizes, infers_size=True)),
    **everywhere("view_as reshape_as", FunctionRule(_reshape_as)),
    **everywhere("unflatten", replace(_REORDERS, rewrite=_write_unflatten, infers_size=True)),
    **everywhere("contiguous clone detach", replace(_REORDERS, calculate=_same_places)),
    **everywhere("expand", FunctionRule(_expand, write_sizes)),
    torch.view_as_complex: FunctionRule(_as_complex, understands=(Grid,)),
    torch.view_as_real: FunctionRule(_as_real),
    **everywhere("expand_as", FunctionRule(_expand_as)),
    **everywhere("repeat tile", FunctionRule(_repeat, _write_repeats)),
    **everywhere(
        "permute transpose swapaxes swapdims movedim moveaxis t",
        replace(_REORDERS, calculate=_rearrange),
    ),
}


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
    signal = _merged_alike(channels, signal, change)
    ids = change(signal.ids)
    several = sum(size > 1 for size in ids.shape) > 1
    before = signal.origin_as(Grid)
    if before is None:
        if not several:
            return Signal(meta, ids, still_alike(signal, meta, change))
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


def _merged_alike(channels: Channels, signal: Signal, change: Callable[[Ids], Ids]) -> Signal:
    """A tensor whose places along an axis are alike, as channels where the batch takes that in.

    So is a mask of each head where heads are merged with the batch.
    """
    expanded = signal.origin_as(Expanded)
    if expanded is None or signal.channel_axes or signal.shape[0] != BATCH:
        return signal
    filled = expanded.filled
    for own, of_call in expanded.axes.items():
        moved = change(along(own, signal.ndim, np.arange(signal.shape[own])))
        is_merged = own > 0 and moved.shape[0] == moved.size > signal.shape[own]
        if not is_merged or filled.ids is None or of_call != filled.axis:
            continue
        if meet_filled(channels, filled, of_call, filled.ids):
            return Signal(signal.meta, along(own, signal.ndim, filled.ids))
    return signal


def still_alike(signal: Signal, meta: Tensor, change: Callable[[Ids], Ids]) -> Expanded | None:
    """The axes whose places are all alike, where they have come to lie as a whole.

    Args:
        signal: the tensor.
        meta: what the function returns, on the meta device.
        change: does to ids, of size 1 along some axes, what the function does to the tensor.
    """
    expanded = signal.origin_as(Expanded)
    if expanded is None:
        return None
    axes: dict[int, int] = {}
    for own, of_call in expanded.axes.items():
        size = signal.shape[own]
        moved = change(along(own, signal.ndim, np.arange(size)))
        axis = int(np.argmax(moved.shape))
        if moved.size == size == meta.shape[axis]:
            axes[axis] = of_call
    return Expanded(axes, expanded.filled) if axes else None


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
