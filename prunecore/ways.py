"""What computes a tensor of parameters alone, followed from channels along one axis of these."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor
from torch.utils import _pytree as pytree

from prunecore.errors import UnsupportedError
from prunecore.records import Records
from prunecore.signal import Followed, Ids, Signal, Way, along, without_channels

if TYPE_CHECKING:
    from prunecore.channels import Channels


def is_open(signal: Signal) -> bool:
    """Whether it is computed of parameters, and its channels are to come from what it meets."""
    own = signal.computed
    return own is not None and not any(known.signal is signal for known in own.followed)


def leaves(signal: Signal) -> Iterator[Signal]:
    """The parameters that a tensor is computed of whose channels come from what they meet."""
    if signal.computed is None:
        if not signal.channel_axes:
            yield signal
        return
    for leaf in pytree.tree_leaves((signal.computed.args, dict(signal.computed.kwargs))):
        if isinstance(leaf, Signal):
            yield from leaves(leaf)


def ways(leaf: Signal) -> Iterator[tuple[Way, Way]]:
    """Where channels may come from that a tensor has which is computed of a parameter, by axis."""
    parameter = leaf.parameter
    for axis, size in enumerate(leaf.shape):
        if parameter is not None and parameter.is_floating_point() and size > 1:
            yield Way(parameter, axis, alone=False), Way(parameter, axis, alone=True)


def is_free(channels: Channels, signal: Signal, way: Way, axis: int | None = None) -> bool:
    """Whether channels stay free that are followed this way, and lie along this axis, if given."""
    walk = trial(channels)
    try:
        result = follow(walk, signal, way)
    except UnsupportedError:
        return False
    return (axis is None or result.channel_axes == [axis]) and not walk.records.pins


def trial(channels: Channels) -> Channels:
    """A walk from here of which nothing is kept."""
    walk = copy.copy(channels)
    walk.tries = True
    bindings = dict(channels.records.bindings)
    walk.records = Records(count=channels.records.count, bindings=bindings)
    return walk


def follow(channels: Channels, signal: Signal, way: Way | None = None) -> Signal:
    """What computes a tensor, followed.

    Args:
        channels: the walk.
        signal: the tensor.
        way: where its channels come from; without one, from what is met on the way.
    """
    if not channels.tries:
        channels.records.computed.append((channels.path, signal))
    known: dict[int, Signal] = {}
    given = None if way is None else _given(channels, way)

    def followed(value: Signal) -> Signal:
        if way is not None and value.parameter is way.parameter:
            assert given is not None
            return replace(value, ids=given, parameter=None)
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
            args, kwargs = pytree.tree_map_only(Signal, followed, (computed.args, computed.kwargs))
            results = channels.follow_computed(computed, args, kwargs)
            for part, result in zip(computed.parts, pytree.tree_leaves(results), strict=True):
                known[id(part)] = replace(result, meta=part.meta)
                if not channels.tries and part.computed is not None:
                    part.computed.followed.append(Followed(known[id(part)], way))
        return known[id(value)]

    return followed(signal)


def _given(channels: Channels, way: Way) -> Ids:
    """The channels of the parameter, laid along their axis."""
    parameter, axis = way.parameter, way.axis
    ids = channels.records.bindings.get(way.key)
    ids = channels.fresh(parameter.shape[axis]) if ids is None else ids
    channels.bind(parameter, axis, ids)
    return along(axis, parameter.ndim, ids)


def _is_of(signal: Signal, parameter: Tensor) -> bool:
    return any(leaf.parameter is parameter for leaf in leaves(signal))
