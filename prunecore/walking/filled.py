"""Uses of tensors that a forward fills with one number: what has each stay as it is."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import fx

from prunecore.channels.channels import Channels
from prunecore.channels.ids import along
from prunecore.channels.signal import Expanded, Filled, Signal, leaves_of
from prunecore.tracing.nodes import is_in_place, reads_shape

_USED = "it meets a tensor that the forward fills with one number, and uses for something else, too"


class FilledUses:
    """One node of a traced forward, as far as it uses tensors that are filled with one number.

    Such a tensor is as wide as the channels that it meets. A node that meets none with it or
    changes it needs it as it is, and so does one that returns it from the network, or from a
    forward before it has met any.

    Args:
        channels: the walk, before it follows the node.
        node: the node.
        given: its arguments.
        values: what the nodes before it have computed.
    """

    def __init__(
        self, channels: Channels, node: fx.Node, given: Any, values: Mapping[fx.Node, Any]
    ) -> None:
        leaves = [leaf for leaf in leaves_of(given) if isinstance(leaf, Signal)]
        # an item that is taken of several tensors is passed on
        takes = node.target is operator.getitem and not isinstance(given[0][0], Signal)
        filled = [] if takes else [leaf.filled for leaf in leaves]
        self._channels = channels
        self._asks = _asks(node)
        computed = leaves_of([values[one] for one in node.all_input_nodes])
        self._sizes = {leaf for leaf in computed if type(leaf) is int}  # as the batch's
        self._returns = node.op == "output"
        self._given = Counter(each for each in filled if each is not None)
        is_call = node.op in ("call_function", "call_method")
        for each in self._given:
            is_left = self._returns and (each.ids is None or not channels.path)
            if is_left or (is_call and is_in_place(node)):
                _stay(channels, each)
        self._before = {each: each.meetings for each in self._given}

    def end(self, result: Any) -> None:
        """Note what the node has done.

        Args:
            result: what it returns, `Signal` for tensor.
        """
        leaves = [leaf for leaf in leaves_of(result) if isinstance(leaf, Signal)]
        for leaf in leaves if self._sizes else ():
            expanded = leaf.origin_as(Expanded)
            if expanded and expanded.filled not in self._given:
                is_computed = any(leaf.shape[axis] in self._sizes for axis in expanded.axes)
                expanded.filled.is_whole |= is_computed
        if not self._given or self._returns:
            return
        passed_on = [leaf.filled for leaf in leaves]
        for each, times in self._given.items():
            met = each.meetings - self._before[each]
            knows = self._asks and (self._asks != "shape" or each.ids is not None)
            if met < times and not knows and not any(each is other for other in passed_on):
                _stay(self._channels, each)


def _asks(node: fx.Node) -> str:
    """What a node asks a tensor for; nothing if it does something else with it."""
    if reads_shape(node):
        return "shape"
    is_plain = node.target is getattr and node.args[1] in ("dtype", "device", "ndim")
    return str(node.args[1]) if is_plain else ""


def as_met(signal: Signal) -> Signal:
    """A tensor as the caller of a forward has it: with the channels that it has met there."""
    filled, axis = signal.filled, signal.filled_axis
    met = None if axis is None else signal.has_met(axis)
    if filled is None or filled.is_whole or axis is None or met is None or signal.channel_axes:
        return signal
    return Signal(signal.meta, along(axis, signal.ndim, met))


def _stay(channels: Channels, filled: Filled) -> None:
    filled.is_whole = True
    if filled.ids is not None:
        channels.pin(filled.ids, _USED)
