"""Tensors that a forward computes of parameters alone, such as a standardised weight.

What channels such a tensor has along an axis shows when it meets others. What computes it is
followed then, once for each such axis, from channels along one axis of the parameter.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils import _pytree as pytree

from prunecore.errors import UnsupportedError
from prunecore.records import Records
from prunecore.signal import FIXED, Followed, Ids, Signal, along, without_channels

WHOLE = "its weight is computed in a way that does not show what each channel of it is"

if TYPE_CHECKING:
    from prunecore.channels import Channels


def is_of_weights(signal: Signal) -> bool:
    """Whether a tensor is a parameter, or computed of such alone."""
    parameter = signal.parameter
    return signal.computed is not None or (parameter is not None and parameter.is_floating_point())


def is_open(signal: Signal) -> bool:
    """Whether it is computed of parameters, and its channels are to come from what it meets."""
    own = signal.computed
    return own is not None and not any(known.signal is signal for known in own.followed)


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
    leaf = leaf_of(signal)
    for own, size in enumerate(leaf.shape):
        for alone in (False, True) if size > 1 else ():
            if _leads(channels, signal, _Way(leaf, own, alone), axis):
                return Followed(_follow(channels, signal, _Way(leaf, own, alone)), own)
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
    result = _follow(channels, signal)
    if not result.channel_axes:
        for leaf in _leaves(signal):
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
    if filters and followed.own is None:
        channels.leave_whole(channels.module, WHOLE)
    elif filters and followed.own is not None:
        parameter = leaf_of(signal).parameter
        bound = channels.records.bindings[id(parameter), followed.own]
        channels.bind(parameter, followed.own, bound, filters=True)


def leaf_of(signal: Signal) -> Signal:
    """The first parameter that a tensor is computed of; the tensor itself, if there is none."""
    return next(_leaves(signal), signal)


def as_followed(value: Any) -> list[Any]:
    """What a node computes, with the channels along each of the axes that it has some along."""
    if isinstance(value, Signal) and value.computed is not None and is_open(value):
        return [known.signal for known in value.computed.followed] or [value]
    return [value]


def _leaves(signal: Signal) -> Iterator[Signal]:
    """The parameters that a tensor is computed of whose channels come from what they meet."""
    if signal.computed is None:
        if not signal.channel_axes:
            yield signal
        return
    for leaf in pytree.tree_leaves((signal.computed.args, dict(signal.computed.kwargs))):
        if isinstance(leaf, Signal):
            yield from _leaves(leaf)


@dataclass(frozen=True)
class _Way:
    """Where the channels come from with which a tensor is followed.

    Attributes:
        leaf: a parameter.
        own: the axis of it along which they lie.
        alone: whether all other parameters are taken for such without channels, as a gain for
            each row is where the columns are followed.
    """

    leaf: Signal
    own: int
    alone: bool

    def leads_to(self, signal: Signal) -> bool:
        """Whether a tensor is computed of the parameter."""
        return any(leaf.parameter is self.leaf.parameter for leaf in _leaves(signal))


def _leads(channels: Channels, signal: Signal, way: _Way, axis: int) -> bool:
    """Whether channels along an axis of a parameter come to lie along this one, and stay free."""
    trial = copy.copy(channels)
    bindings = dict(channels.records.bindings)
    trial.tries = True
    trial.records = Records(count=channels.records.count, bindings=bindings)
    try:
        result = _follow(trial, signal, way)
    except UnsupportedError:
        return False
    held = trial.records.pins or trial.records.parts
    return result.channel_axes == [axis] and not held


def _follow(channels: Channels, signal: Signal, way: _Way | None = None) -> Signal:
    """What computes a tensor, followed.

    Args:
        channels: the walk.
        signal: the tensor.
        way: where its channels come from; without one, from what is met on the way.
    """
    known: dict[int, Signal] = {}
    given = None if way is None else _given(channels, way)

    def follow(value: Signal) -> Signal:
        if way is not None and value.parameter is way.leaf.parameter is not None:
            assert given is not None
            return given
        computed = value.computed
        if way is not None and not way.leads_to(value) and is_open(value):
            return value  # its channels come from what it meets on the way
        if computed is None or not is_open(value):
            others = way is not None and way.alone and value.channel_axes
            return Signal(value.meta, without_channels(value.ndim)) if others else value
        if id(value) not in known:
            args, kwargs = pytree.tree_map_only(Signal, follow, (computed.args, computed.kwargs))
            known[id(value)] = channels.follow_computed(computed, args, kwargs)
            if not channels.tries:
                own = None if way is None else way.own
                computed.followed.append(Followed(known[id(value)], own))
        return known[id(value)]

    return follow(signal)


def _given(channels: Channels, way: _Way) -> Signal:
    """The parameter with its channels."""
    parameter, size = way.leaf.parameter, way.leaf.shape[way.own]
    ids = channels.records.bindings.get((id(parameter), way.own))
    ids = channels.fresh(size) if ids is None else ids
    channels.bind(parameter, way.own, ids)
    return replace(way.leaf, ids=along(way.own, way.leaf.ndim, ids), parameter=None)
