"""Weights that a forward computes of parameters, as a standardised one, followed axis by axis.

What channels such a tensor has along an axis shows when it meets others. What computes it is
followed then, once for each such axis, from channels along one axis of the parameter.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from torch.utils import _pytree as pytree

from prunecore.channels.channels import Channels
from prunecore.channels.computed import _is_of, is_open, leaf_of, leaves, ways
from prunecore.channels.ids import FIXED, Ids, along, without_channels
from prunecore.channels.records import Records
from prunecore.channels.signal import Computed, Followed, Signal, Sized, Way, map_signals
from prunecore.errors import UnsupportedError


class Follower(Channels):
    """Channels that can be followed through what computes a weight, too."""

    @abstractmethod
    def follow_computed(self, own: Computed, args: Any, kwargs: Any) -> Signal:
        """Follow what computes a tensor of parameters alone, now that these have channels."""


Following = TypeVar("Following", bound=Follower)

WHOLE = "its weight is computed in a way that does not show what each channel of it is"


def with_channels(channels: Follower, signal: Signal, axis: int) -> Followed | None:
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


def whole(channels: Follower, signal: Signal) -> Signal:
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


def meeting(channels: Follower, signals: Sequence[Signal]) -> list[Signal]:
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
    channels: Follower, signal: Signal, axis: int, ids: Ids | None, filters: bool
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


def follow_rest(channels: Follower, signal: Signal) -> None:
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
        if bound is None or (bound == FIXED).all():
            continue
        if any(known.way in along_axis for known in followed):
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


def sized(channels: Follower, signal: Signal) -> Signal:
    """A tensor of parameters whose sizes know the channels that they will turn out to count.

    Args:
        channels: the walk.
        signal: a parameter, or computed of such.
    """
    if not is_open(signal) and (signal.parameter is None or signal.channel_axes):
        return signal
    possible = [way for along_axis in ways(leaf_of(signal)) for way in along_axis]
    along_axes = []
    for axis, size in enumerate(signal.shape):
        free = (way for way in possible if size > 1 and is_free(channels, signal, way, axis))
        way = next(free, None)
        if way is None:
            along_axes.append(without_channels(1))
        else:
            known = channels.records.sized
            if way.key not in known:
                known[way.key] = channels.fresh(way.parameter.shape[way.axis])
            along_axes.append(known[way.key])
    return Signal(signal.meta, without_channels(signal.ndim), Sized(tuple(along_axes)))


def join_sized(channels: Follower) -> None:
    """Let the sizes that forwards have asked for count the channels that there turned out to be."""
    for key, ids in channels.records.sized.items():
        channels.join(ids, channels.records.bindings.get(key, np.full(len(ids), FIXED)))


def is_free(channels: Follower, signal: Signal, way: Way, axis: int | None = None) -> bool:
    """True if channels stay free that are followed this way, and lie along this axis, if given."""
    walk = trial(channels)
    try:
        result = follow(walk, signal, way)
    except UnsupportedError:
        return False
    counted = [without_channels(1), *walk.records.sized.values()]  # not met, however they are used
    met = [ids for ids, _ in walk.records.pins if not np.isin(ids, np.concatenate(counted)).all()]
    return (axis is None or result.channel_axes == [axis]) and not met


def trial(channels: Following) -> Following:
    """A walk from here of which nothing is kept."""
    walk = copy.copy(channels)
    bindings = dict(channels.records.bindings)
    walk.records = Records(
        count=channels.records.count,
        is_trial=True,
        of_stored=list(channels.records.of_stored),
        bindings=bindings,
        sized=dict(channels.records.sized),
    )
    return walk


def follow(channels: Follower, signal: Signal, way: Way | None = None) -> Signal:
    """What computes a tensor, followed.

    Args:
        channels: the walk.
        signal: the tensor.
        way: where its channels come from; without one, from what is met on the way.
    """
    if not channels.records.is_trial:
        channels.records.computed.append((channels.path, signal))
    known: dict[int, Signal] = {}
    given = None if way is None else _given(channels, way)

    def followed(value: Signal) -> Signal:
        if way is not None and value.parameter is way.parameter:
            assert given is not None
            return Signal(value.meta, given)
        computed = value.computed
        if way is not None and not _is_of(value, way.parameter) and is_open(value):
            return value  # its channels come from what it meets on the way
        if computed is None or not is_open(value):
            others = way is not None and way.alone and value.channel_axes
            return Signal(value.meta, without_channels(value.ndim)) if others else value
        before = [one.signal for one in computed.followed if one.way == way]
        if before:
            return before[0]
        if id(value) not in known:
            args, kwargs = map_signals(followed, (computed.args, computed.kwargs))
            met_whole = set(channels.records.met_whole)
            results = channels.follow_computed(computed, args, kwargs)
            channels.records.met_whole &= met_whole  # what is whole on one way may not be on others
            for part, result in zip(computed.parts, pytree.tree_leaves(results), strict=True):
                known[id(part)] = replace(result, meta=part.meta)
                if not channels.records.is_trial and part.computed is not None:
                    part.computed.followed.append(Followed(known[id(part)], way))
        return known[id(value)]

    return followed(signal)


def _given(channels: Follower, way: Way) -> Ids:
    """The channels of the parameter, laid along their axis."""
    parameter, axis = way.parameter, way.axis
    ids = channels.records.bindings.get(way.key)
    ids = channels.fresh_of_stored(parameter.shape[axis]) if ids is None else ids
    channels.bind(parameter, axis, ids)
    return along(axis, parameter.ndim, ids)
