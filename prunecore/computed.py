"""Tensors that a forward computes of parameters alone, such as a standardised weight, or its rows.

What channels such a tensor has along an axis shows when it meets others. What computes it is
followed then, once for each such axis, from channels along one axis of the parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from torch.utils import _pytree as pytree

from prunecore.errors import UnsupportedError
from prunecore.signal import FIXED, Computed, Followed, Ids, Signal, without_channels
from prunecore.ways import follow, is_free, is_open, leaves, ways

WHOLE = "its weight is computed in a way that does not show what each channel of it is"

if TYPE_CHECKING:
    from prunecore.channels import Channels


def are_of_weights(signals: Sequence[Signal]) -> bool:
    """Whether tensors are parameters, or computed of such alone; some may be stored indices."""
    stored = [signal.parameter for signal in signals if signal.computed is None]
    are_indices = [each is not None and not each.is_floating_point() for each in stored]
    return None not in stored and not (len(stored) == len(signals) and all(are_indices))


def open_parts(result: Any, own: Computed) -> Any:
    """What a function returns that computes of parameters, its channels yet to be found.

    Args:
        result: a `Signal` for each tensor.
        own: how it is computed.
    """

    def opened(signal: Signal) -> Signal:
        computed = replace(own, followed=[])
        part = Signal(signal.meta, without_channels(signal.ndim), computed=computed)
        own.parts.append(part)
        return part

    return pytree.tree_map_only(Signal, opened, result)


def with_channels(channels: Channels, signal: Signal, axis: int) -> Followed | None:
    """A tensor with channels along one axis; `None` where they cannot be followed to it.

    Args:
        channels: the walk.
        signal: computed of parameters, and open.
        axis: its axis.
    """
    assert signal.computed is not None
    for known in signal.computed.followed:
        if not known.signal.channel_axes:
            return None
        if known.signal.channel_axes == [axis]:
            return known
    for way in (way for along_axis in ways(leaf_of(signal)) for way in along_axis):
        if is_free(channels, signal, way, axis):
            return Followed(follow(channels, signal, way), way)
    return None


def whole(channels: Channels, signal: Signal) -> Signal:
    """A tensor as functions meet it that do not ask where it comes from.

    The parameters that it is computed of stay whole, but for what meets channels on the way.
    """
    if not is_open(signal):
        return signal
    assert signal.computed is not None
    if signal.computed.followed:
        for known in signal.computed.followed:
            channels.pin(known.signal.ids, WHOLE)
        return Signal(signal.meta, without_channels(signal.ndim))
    result = follow(channels, signal)
    if not result.channel_axes:
        for leaf in leaves(signal):
            for axis, size in enumerate(leaf.shape):
                if size > 1:
                    channels.bind(leaf.parameter, axis, np.full(size, FIXED, dtype=np.int64))
    return result


def meeting(channels: Channels, signals: Sequence[Signal]) -> list[Signal]:
    """Tensors that meet place by place, those that are computed with the channels of the others."""
    settled = [signal for signal in signals if not is_open(signal)]
    if len(settled) == len(signals):
        return settled
    rank = max(signal.ndim for signal in signals)
    axes = {axis + rank - other.ndim for other in settled for axis in other.channel_axes}
    met: list[Signal] = []
    for signal in signals:
        own = [axis - rank + signal.ndim for axis in axes]
        found = None
        if is_open(signal) and len(own) == 1 and own[0] >= 0 and signal.shape[own[0]] > 1:
            found = with_channels(channels, signal, own[0])
        met.append(found.signal if found else whole(channels, signal))
    return met


def bind_computed(
    channels: Channels, signal: Signal, axis: int, ids: Ids | None, filters: bool
) -> None:
    """Bind one axis of a tensor that a forward computes of parameters.

    Where that cannot be followed, what meets it there is left whole, and so is the layer.

    Args:
        channels: the walk.
        signal: the tensor.
        axis: its axis.
        ids: shape `(signal.shape[axis],)`; `None` where no channels lie along it.
        filters: whether the places along the axis are the filters that make the channels.
    """
    if signal.parameter is not None:
        channels.bind(signal.parameter, axis, ids, filters)
        return
    followed = Followed(signal, None)
    if is_open(signal) and ids is not None:
        found = with_channels(channels, signal, axis)
        followed = found or Followed(whole(channels, signal), None)
    own = channels.axis(followed.signal, axis)
    if own is None or ids is None:
        for each in (own, ids):
            if each is not None:
                channels.pin(each, WHOLE)
    else:
        channels.join(own, ids)
    way = followed.way
    if filters and way is None:
        channels.leave_whole(channels.module, WHOLE)
    elif filters and way is not None:
        bound = channels.records.bindings[way.key]
        channels.bind(way.parameter, way.axis, bound, filters=True)


def follow_rest(channels: Channels, signal: Signal) -> None:
    """Follow a tensor from axes of its parameters that are cut, although it asks for none of these.

    It takes rows by their number, for instance, of which another layer cuts some. What meets no
    channels where these come out is left whole.

    Args:
        channels: the walk.
        signal: computed of parameters, and followed as far as channels meet it.
    """
    assert signal.computed is not None
    for along_axis in (pair for leaf in leaves(signal) for pair in ways(leaf)):
        bound = channels.records.bindings.get(along_axis[0].key)
        followed = list(signal.computed.followed)
        if bound is None or any(known.way in along_axis for known in followed):
            continue
        free = [way for way in along_axis if is_free(channels, signal, way)]
        try:
            result = follow(channels, signal, (*free, *along_axis)[0])
        except UnsupportedError:
            channels.pin(bound, WHOLE)
            continue
        met = [one.signal for one in followed if one.signal.channel_axes == result.channel_axes]
        if met and result.channel_axes:
            channels.join(met[0].ids, result.ids)
        else:
            channels.pin(result.ids, WHOLE)


def columns_of(weight: Tensor | Signal, axis: int) -> Ids | None:
    """The channels along an axis of a computed weight that need not be zero where one is gone."""
    if not isinstance(weight, Signal) or weight.computed is None or _is_moved(weight):
        return None
    for known in weight.computed.followed:
        if known.signal.channel_axes == [axis]:
            return known.signal.ids.ravel()
    return None


def leaf_of(signal: Signal) -> Signal:
    """The first parameter that a tensor is computed of; the tensor itself, if there is none."""
    return next(leaves(signal), signal)


def as_followed(value: Any) -> list[Any]:
    """What a node computes, with the channels along each of the axes that it has some along."""
    if isinstance(value, Signal) and value.computed is not None and is_open(value):
        return [known.signal for known in value.computed.followed] or [value]
    return [value]


def _is_moved(signal: Signal) -> bool:
    """Whether all that is done to a parameter, and to stored indices, moves or takes places."""
    own = signal.computed
    if own is None:
        return signal.parameter is not None
    given = pytree.tree_leaves((own.args, dict(own.kwargs)))
    return own.moves and all(_is_moved(leaf) for leaf in given if isinstance(leaf, Signal))
