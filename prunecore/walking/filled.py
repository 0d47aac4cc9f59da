"""Uses of tensors that a forward fills with one number: what has each stay as it is."""

from __future__ import annotations

import operator
from collections import Counter
from typing import Any

from torch import fx
from torch.utils import _pytree as pytree

from prunecore.channels.channels import Channels
from prunecore.channels.signal import Filled, Signal
from prunecore.tracing.nodes import is_in_place

_USED = "it meets a tensor that the forward fills with one number, and uses for something else, too"


class FilledUses:
    """One node of a traced forward, as far as it uses tensors that are filled with one number.

    Such a tensor is as wide as the channels that it meets. A node that meets none with it, changes
    it or returns it from the forward needs it as it is.

    Args:
        channels: the walk, before it follows the node.
        node: the node.
        given: its arguments.
    """

    def __init__(self, channels: Channels, node: fx.Node, given: Any) -> None:
        leaves = [leaf for leaf in pytree.tree_leaves(given) if isinstance(leaf, Signal)]
        # an item that is taken of several tensors is passed on
        takes = node.target is operator.getitem and not isinstance(given[0][0], Signal)
        filled = [] if takes else [leaf.filled for leaf in leaves]
        self._channels = channels
        self._given = Counter(each for each in filled if each is not None)
        is_call = node.op in ("call_function", "call_method")
        if self._given and (node.op == "output" or (is_call and is_in_place(node))):
            for each in self._given:
                _stay(channels, each)
        self._before = {each: each.meetings for each in self._given}

    def end(self, result: Any) -> None:
        """Note what the node has done.

        Args:
            result: what it returns, `Signal` for tensor.
        """
        if not self._given:
            return
        leaves = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Signal)]
        passed_on = [leaf.filled for leaf in leaves]
        for each, times in self._given.items():
            met = each.meetings - self._before[each]
            if met < times and not any(each is other for other in passed_on):
                _stay(self._channels, each)


def _stay(channels: Channels, filled: Filled) -> None:
    filled.is_whole = True
    if filled.ids is not None:
        channels.pin(filled.ids, _USED)
