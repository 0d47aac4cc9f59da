"""Sizes that a forward computes of numbers of channels, as the kept ones need them.

`x.view(n, 8, c // 8)` has 8 groups whatever `c` is, which no longer holds where whole groups went.
Where what is computed would not be the size that is kept, the size is written as a number; in all
instances of a class alike.
"""

from __future__ import annotations

import operator
from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

from torch import fx
from torch.utils import _pytree as pytree

from prunecore.calls import Functions, counting, rule_of
from prunecore.functions import Arguments
from prunecore.keep import Keep
from prunecore.records import Trace
from prunecore.rehearsal import Rehearsal
from prunecore.sizes import Count, counted


def with_kept_sizes(
    traces: Mapping[str, Trace], keep: Keep, functions: Functions
) -> dict[str, Trace]:
    """The forwards, their calls given the sizes of what is kept.

    Args:
        traces: the followed forwards, by path.
        keep: what stays.
        functions: the rules.
    """
    alike: dict[Hashable, list[str]] = {}
    wrong: dict[str, set[int]] = {}
    for path, trace in traces.items():
        calls = tuple((node.op, node.target) for node in trace.graph.nodes)
        alike.setdefault((type(trace.module), calls), []).append(path)
        rehearsal = Rehearsal(trace, keep, functions)
        wrong[path] = {
            place
            for place, node in enumerate(trace.graph.nodes)
            if counting(trace, node) and not _hold(trace, node, rehearsal, keep, functions)
        }
    result = dict(traces)
    for paths in alike.values():
        places = set().union(*(wrong[path] for path in paths))
        if places:
            result |= {path: _stated(traces[path], places) for path in paths}
    return result


def _hold(
    trace: Trace, node: fx.Node, rehearsal: Rehearsal, keep: Keep, functions: Functions
) -> bool:
    """Whether a call computes the sizes that its rule would write."""
    rule = rule_of(node, functions)
    if rule is None or rule.rewrite is None:
        return True
    numbers = {source: _as_ints(trace.values[source]) for source in counting(trace, node)}
    needed = rule.rewrite(_given(node, numbers), trace.values[node], keep)
    computed = _given(node, {source: rehearsal.value(source) for source in numbers})
    return bool(pytree.tree_leaves(needed) == pytree.tree_leaves(computed))


def _as_ints(sizes: Any) -> Any:
    return pytree.tree_map_only(Count, int, sizes)


def _given(node: fx.Node, numbers: Mapping[fx.Node, Any]) -> Arguments:
    """The arguments of a call, with numbers in the places of what computes them."""
    args = fx.node.map_arg(node.args, lambda source: numbers.get(source, source))
    kwargs = fx.node.map_arg(node.kwargs, lambda source: numbers.get(source, source))
    return tuple(args), dict(kwargs)


def _stated(trace: Trace, places: set[int]) -> Trace:
    """A forward some calls of which are given numbers for what they compute of those of channels.

    Args:
        trace: the forward.
        places: of the calls, among its nodes.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    values: dict[fx.Node, Any] = {}
    for place, node in enumerate(trace.graph.nodes):
        copies[node] = copy = graph.node_copy(node, copies.__getitem__)
        if node in trace.values:
            values[copy] = trace.values[node]
        if place not in places:
            continue
        numbers = {
            copies[source]: _numbers(graph, copies[source], trace.values[source], values, copy)
            for source in counting(trace, node)
        }
        copy.args, copy.kwargs = _given(copy, numbers)
    return replace(trace, graph=graph, values=values)


def _numbers(
    graph: fx.Graph, node: fx.Node, value: Any, values: dict[fx.Node, Any], before: fx.Node
) -> Any:
    """A size as a number; of several sizes, those that count channels."""
    if not isinstance(value, tuple):
        return int(value)
    sizes: list[Any] = []
    for place, size in enumerate(value):
        if counted([size]):
            sizes.append(int(size))
            continue
        with graph.inserting_before(before):
            sizes.append(graph.call_function(operator.getitem, (node, place)))
        values[sizes[-1]] = size
    return tuple(sizes)
