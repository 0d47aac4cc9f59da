"""Sizes along channels that a forward computes, rewritten for the kept widths.

`x.view(n, 8, c // 8)` has 8 groups whatever `c` is, which no longer holds where whole groups went.
Where what is computed would not be the size that is kept, the size is left to be found out, or
written as a number where several are; in all instances of a class alike. A number that the forward
computes with, such as attention's scale, stays what it was.
"""

from __future__ import annotations

import operator
from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

from torch import fx
from torch.utils import _pytree as pytree

from prunecore.channels.keep import Keep
from prunecore.channels.records import Trace
from prunecore.channels.signal import Signal
from prunecore.channels.sizes import Count, Ratio, counted
from prunecore.functions.rule import Arguments
from prunecore.tracing.contexts import UNDER, under
from prunecore.tracing.nodes import function_of
from prunecore.walking.calls import Functions, counting, picking
from prunecore.writing.passes.rehearsal import Rehearsal, rehearsals


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
    wrong: dict[str, dict[tuple[int, int], set[int]]] = {}
    for path, trace in traces.items():
        calls = tuple((node.op, node.target) for node in trace.graph.nodes)
        alike.setdefault((type(trace.module), calls), []).append(path)
        tried = rehearsals(trace, keep, functions)
        wrong[path] = {
            (place, number): _along_channels(trace, node, source)
            for place, node in enumerate(trace.graph.nodes)
            for number, source in enumerate(_computed(trace, node))
            if not all(_holds(trace, node, source, one, keep, functions) for one in tried)
            and node.name not in keep.dependencies.masked_functions.get(path, {})
        }
    result = dict(traces)
    for paths in alike.values():
        places: dict[tuple[int, int], set[int]] = {}
        for path in paths:
            for key, sizes in wrong[path].items():
                places.setdefault(key, set()).update(sizes)
        if places:
            result |= {path: _stated(traces[path], places, functions) for path in paths}
    return result


def _computed(trace: Trace, node: fx.Node) -> list[fx.Node]:
    """The arguments of a call that are computed numbers, or shapes with numbers of channels."""
    if node.op not in ("call_function", "call_method") or picking(trace, node):
        return []
    counts = counting(trace, node)
    return [
        source
        for source in node.all_input_nodes
        if source in counts or isinstance(trace.values[source], int) or _is_shape(trace, source)
    ]


def _is_shape(trace: Trace, node: fx.Node) -> bool:
    """True if a node is several sizes, of the input perhaps, which are all that they were."""
    value = trace.values[node]
    return isinstance(value, tuple) and all(isinstance(size, int) for size in value)


def _along_channels(trace: Trace, node: fx.Node, source: fx.Node) -> set[int]:
    """Which of several sizes that a call is given are those of axes that channels lie along."""
    sizes, result = trace.values[source], trace.values[node]
    if not isinstance(sizes, tuple):
        return set()
    is_shape = isinstance(result, Signal) and len(sizes) == result.ndim
    return {
        place
        for place, size in enumerate(sizes)
        if counted([size]) or (is_shape and result.may_be_cut(place))
    }


def _holds(
    trace: Trace,
    node: fx.Node,
    source: fx.Node,
    rehearsal: Rehearsal,
    keep: Keep,
    functions: Functions,
) -> bool:
    """True if what a call computes for one of its arguments is what its rule would write."""
    rule = functions.get(function_of(node))
    if rule is not None and rule.keeps_numbers and isinstance(trace.values[node], Signal):
        value = trace.values[source]
        return not counted([value]) or rehearsal.value(source) == value
    if rule is None or rule.rewrite is None:
        return True
    number = {source: _as_ints(trace.values[source])}
    needed, computed = (
        fx.node.map_arg(rule.rewrite(given, trace.values[node], keep), rehearsal.value)
        for given in (_given(node, number), _given(node, {}))
    )
    return _numbers_in(needed) == _numbers_in(computed)


def _numbers_in(arguments: Any) -> list[int]:
    return [leaf for leaf in pytree.tree_leaves(arguments) if isinstance(leaf, int)]


def _as_ints(sizes: Any) -> Any:
    return pytree.tree_map_only(Count, int, sizes)


def _given(node: fx.Node, numbers: Mapping[fx.Node, Any]) -> Arguments:
    """The arguments of a call, with numbers in the places of what computes them."""
    args = fx.node.map_arg(node.args, lambda source: numbers.get(source, source))
    kwargs = fx.node.map_arg(node.kwargs, lambda source: numbers.get(source, source))
    return tuple(args), dict(kwargs)


def _stated(
    trace: Trace, places: Mapping[tuple[int, int], Set[int]], functions: Functions
) -> Trace:
    """A forward some calls of which are given numbers for what they compute.

    Args:
        trace: the forward.
        places: of the calls, among its nodes, and of the arguments, among the computed ones; with
            which sizes are stated where an argument is several.
        functions: the rules.
    """
    result, copies = trace.copied()
    values = dict(result.values)
    for place, node in enumerate(trace.graph.nodes):
        copy = copies[node]
        numbers = {
            copies[source]: _numbers(copies[source], places[place, number], values, copy)
            for number, source in enumerate(_computed(trace, node))
            if (place, number) in places
        }
        if not numbers:
            continue
        if _is_inferred(copy, list(numbers.values()), functions):
            numbers = dict.fromkeys(numbers, -1)
        copy.args, copy.kwargs = _given(copy, numbers)
    return replace(result, values=values)


def _is_inferred(call: fx.Node, numbers: Sequence[Any], functions: Functions) -> bool:
    """True if a call may find out the one size that is stated."""
    leaves = pytree.tree_leaves((call.args, call.kwargs))
    is_one = len(numbers) == 1 and isinstance(numbers[0], int) and -1 not in leaves
    return is_one and functions[function_of(call)].infers_size


def _numbers(node: fx.Node, stated: Set[int], values: dict[fx.Node, Any], before: fx.Node) -> Any:
    """A size as a number; of several sizes, those that are stated."""
    value = values[node]
    if isinstance(value, Ratio):
        return _of_numbers(node, values, before)
    if not isinstance(value, tuple):
        return int(value)
    sizes: list[Any] = []
    for place, size in enumerate(value):
        if place in stated:
            sizes.append(int(size))
            continue
        with node.graph.inserting_before(before):
            sizes.append(node.graph.call_function(operator.getitem, (node, place)))
        sizes[-1].meta[UNDER] = under(before)
        values[sizes[-1]] = size
    return tuple(sizes)


def _of_numbers(node: fx.Node, values: dict[fx.Node, Any], before: fx.Node) -> Any:
    """What computes a number of sizes, given these as numbers: `32 ** -0.5`."""
    if not isinstance(values[node], Ratio):
        return int(values[node])

    def number(source: fx.Node) -> Any:
        return _of_numbers(source, values, before) if counted([values[source]]) else source

    args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), number)
    with node.graph.inserting_before(before):
        made = node.graph.create_node(node.op, node.target, args, kwargs)
    made.meta = dict(node.meta)
    values[made] = values[node]
    return made
