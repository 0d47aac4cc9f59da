"""Sizes that a forward computes of numbers of channels, as the kept ones need them.

`x.view(n, 8, c // 8)` has 8 groups whatever `c` is, which no longer holds where whole groups went.
Where what is computed would not be the size that is kept, the size is left to be found out, or
written as a number where several are; in all instances of a class alike.
"""

from __future__ import annotations

import operator
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import fx
from torch.utils import _pytree as pytree

from prunecore.calls import Functions, counting
from prunecore.functions import Arguments, function_of
from prunecore.keep import Keep
from prunecore.records import Trace
from prunecore.rehearsal import Rehearsal
from prunecore.sizes import Count, counted

_INFERRING = {"reshape", "view", "unflatten"}  # functions that find out a size given as -1


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
    rule = functions.get(function_of(node))
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
    result, copies = trace.copied()
    values = dict(result.values)
    for place, node in enumerate(trace.graph.nodes):
        if place not in places:
            continue
        copy, sources = copies[node], counting(trace, node)
        numbers = {
            copies[one]: _numbers(copies[one], trace.values[one], values, copy) for one in sources
        }
        if _is_inferred(copy, list(numbers.values())):
            numbers = dict.fromkeys(numbers, -1)
        copy.args, copy.kwargs = _given(copy, numbers)
    return replace(result, values=values)


def _is_inferred(call: fx.Node, numbers: Sequence[Any]) -> bool:
    """Whether a call may find out the one size that is stated."""
    leaves = pytree.tree_leaves((call.args, call.kwargs))
    is_one = len(numbers) == 1 and isinstance(numbers[0], int) and -1 not in leaves
    return is_one and function_of(call).__name__ in _INFERRING


def _numbers(node: fx.Node, value: Any, values: dict[fx.Node, Any], before: fx.Node) -> Any:
    """A size as a number; of several sizes, those that count channels."""
    if not isinstance(value, tuple):
        return int(value)
    sizes: list[Any] = []
    for place, size in enumerate(value):
        if counted([size]):
            sizes.append(int(size))
            continue
        with node.graph.inserting_before(before):
            sizes.append(node.graph.call_function(operator.getitem, (node, place)))
        values[sizes[-1]] = size
    return tuple(sizes)
