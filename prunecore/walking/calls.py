"""Calls of a traced forward that state places or widths, in which all of a module's calls agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import fx
from torch.utils import _pytree as pytree

from prunecore.channels.channels import Channels
from prunecore.channels.computed import as_followed
from prunecore.channels.ids import Ids, along
from prunecore.channels.records import Trace
from prunecore.channels.signal import Picked, Signal
from prunecore.channels.sizes import counted
from prunecore.functions.rule import FunctionRule
from prunecore.tracing.conditions import Condition, choose, chosen
from prunecore.tracing.nodes import function_of
from prunecore.tracing.ways.pairing import alike

Functions = Mapping[Callable[..., Any], FunctionRule]

IN_EVAL: Mapping[Condition, bool] = {}  # and without optional inputs


def picking(trace: Trace, node: fx.Node) -> list[tuple[Signal, Picked]]:
    """The tensors that a call has taken places for, and these; none if it takes none."""
    if node.op not in ("call_function", "call_method") or node.target is choose:
        return []
    values = [trace.values[source] for source in node.all_input_nodes]
    if not any(isinstance(value, Signal) for value in values):
        return []  # an item of several tensors, which training may have of another call
    given = signals_in(values)
    return [
        (signal, picked)
        for signal in signals_in(trace.values[node])
        if (picked := signal.origin_as(Picked))
        and not any(signal is other for other in given)  # it is only passed on
    ]


def way(
    trace: Trace, node: fx.Node, tensor: Signal, holding: Mapping[Condition, bool] = IN_EVAL
) -> list[fx.Node]:
    """The calls that lead to one that takes places, from the tensor that they moved the places of.

    Args:
        trace: the forward.
        node: the call.
        tensor: what it takes them of.
        holding: which conditions of the forward hold; the others do not.
    """
    steps = [node]
    while len(steps) == 1 or trace.values[steps[0]].meta is not tensor.meta:
        if steps[0].target is choose:
            steps.insert(0, chosen(steps[0], holding))
            continue
        tensors = [
            source
            for source in steps[0].all_input_nodes
            if isinstance(trace.values[source], Signal)
        ]
        steps.insert(0, tensors[0])
    return steps


def signals_in(values: Any) -> list[Signal]:
    """The tensors among values, those that are computed of parameters as they were followed."""
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
    pairs = zip(first.graph.nodes, later.graph.nodes, strict=True)
    couple_stated(channels, first, later, pairs, functions)


def couple_stated(
    channels: Channels,
    first: Trace,
    later: Trace,
    pairs: Iterable[tuple[fx.Node, fx.Node]],
    functions: Functions,
) -> None:
    """Couple what two calls of a forward meet where their text, which is one, states it.

    Args:
        channels: the walk.
        first: one call, followed.
        later: another one.
        pairs: the nodes of the two that are written as one.
        functions: the rules.
    """
    for one, other in pairs:
        stated = [*_stated(first, one, functions), *_stated(later, other, functions)]
        if len({tensor.ids.shape for tensor in stated}) == 1 and len(stated) == 2:
            channels.join(stated[0].ids, stated[1].ids)
            continue
        if stated:  # of another width in the other call, or all of it stays there
            counts = [*_counted(first, one), *_counted(later, other)]
            for ids in [*(tensor.ids for tensor in stated), *counts]:
                channels.pin(ids, "a module that is called twice takes places of it")


def _counted(trace: Trace, node: fx.Node) -> list[Ids]:
    """The channels that arguments of a call count."""
    given = [trace.values[source] for source in counting(trace, node)]
    return counted(pytree.tree_leaves(given))


def _stated(trace: Trace, node: fx.Node, functions: Functions) -> list[Signal]:
    """The tensors whose kept places or widths the text of a call states."""
    if picks := picking(trace, node):
        return [picks[0][1].source]
    rule = functions.get(function_of(node))
    value = trace.values.get(node)
    if rule is None or rule.rewrite is None or not isinstance(value, Signal):
        return []
    axis = value.filled_axis
    met = None if axis is None else value.has_met(axis)
    if axis is not None and met is not None:
        return [Signal(value.meta, along(axis, value.ndim, met))]
    literals = pytree.tree_leaves((node.args[1:], dict(node.kwargs)))
    states = any(isinstance(literal, int) and literal > 1 for literal in literals)
    widths = {value.shape[axis] for axis in value.channel_axes}
    given = pytree.tree_leaves([trace.values[source] for source in node.all_input_nodes])
    states |= any(isinstance(size, int) and size in widths for size in given)
    return [value] if states or counting(trace, node) else []
