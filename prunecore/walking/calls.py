"""Calls of a traced forward whose text states which places or how many of them are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import fx
from torch.utils import _pytree as pytree

from prunecore.channels.channels import Channels
from prunecore.channels.computed import as_followed
from prunecore.channels.records import Trace
from prunecore.channels.signal import Picked, Signal
from prunecore.channels.sizes import counted
from prunecore.functions.rule import FunctionRule
from prunecore.tracing.nodes import function_of
from prunecore.tracing.train_eval import alike

Functions = Mapping[Callable[..., Any], FunctionRule]


def picking(trace: Trace, node: fx.Node) -> list[tuple[Signal, Picked]]:
    """The tensors that a call has taken places for, and these; none if it takes none."""
    if node.op not in ("call_function", "call_method"):
        return []
    given = _signals([trace.values[source] for source in node.all_input_nodes])
    return [
        (signal, picked)
        for signal in _signals(trace.values[node])
        if (picked := signal.origin_as(Picked))
        and not any(signal is other for other in given)  # it is only passed on
    ]


def _signals(values: Any) -> list[Signal]:
    followed = [one for leaf in pytree.tree_leaves(values) for one in as_followed(leaf)]
    return [one for one in followed if isinstance(one, Signal)]


def counting(trace: Trace, node: fx.Node) -> list[fx.Node]:
    """The arguments of a call that depend on numbers of channels; none where it takes places."""
    if node.op not in ("call_function", "call_method") or picking(trace, node):
        return []
    return [
        source
        for source in node.all_input_nodes
        if counted(pytree.tree_leaves(trace.values[source]))
    ]


def agree(channels: Channels, first: Trace, later: Trace, functions: Functions) -> None:
    """Couple what two calls of a module meet where the module's text states what is kept of it.

    Args:
        channels: the walk.
        first: the module's forward as the first call has it, which is the one that is written.
        later: the same for another call.
        functions: the rules.

    Raises:
        UnsupportedError: the two calls do different things.
    """
    if not alike(first.graph, later.graph):
        channels.refuse(
            "it is called twice, and does something else in the second call",
            "Call two modules, or give both calls inputs of one size.",
        )
    for one, other in zip(first.graph.nodes, later.graph.nodes, strict=True):
        stated = [*_stated(first, one, functions), *_stated(later, other, functions)]
        if len({tensor.ids.shape for tensor in stated}) == 1 and len(stated) == 2:
            channels.join(stated[0].ids, stated[1].ids)
            continue
        for tensor in stated:  # of another width in the other call, or all of it stays there
            channels.pin(tensor.ids, "a module that is called twice takes places of it")


def _stated(trace: Trace, node: fx.Node, functions: Functions) -> list[Signal]:
    """The tensors whose kept places or widths the text of a call states."""
    if picks := picking(trace, node):
        return [picks[0][1].source]
    rule = functions.get(function_of(node))
    literals = pytree.tree_leaves((node.args[1:], dict(node.kwargs)))
    states = any(isinstance(literal, int) and literal > 1 for literal in literals)
    if rule is None or rule.rewrite is None or not (states or counting(trace, node)):
        return []
    value = trace.values[node]
    return [value] if isinstance(value, Signal) else []
