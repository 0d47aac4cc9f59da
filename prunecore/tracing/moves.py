"""Moves of tensors to where the others are, which a forward may make on some devices alone."""

from __future__ import annotations

import copy

from torch import fx

from prunecore.tracing.ways.pairing import alike


def alike_but_for_moves(first: fx.Graph, second: fx.Graph) -> bool:
    """True if two traces of one forward do the same, wherever what they are given is."""
    return alike(_without_moves(first), _without_moves(second))


def _without_moves(graph: fx.Graph) -> fx.Graph:
    """A copy of a trace that moves nothing to where another tensor is."""
    copied = copy.deepcopy(graph)
    for node in copied.nodes:
        if node.op == "call_method" and node.target == "to" and _is_device(node.args[-1]):
            node.replace_all_uses_with(node.args[0])
            copied.erase_node(node)
    for node in copied.nodes:
        if _is_device(node) and not node.users:
            copied.erase_node(node)
    return copied


def _is_device(value: object) -> bool:
    if not isinstance(value, fx.Node):
        return False
    return value.target is getattr and value.args[1:] == ("device",)
