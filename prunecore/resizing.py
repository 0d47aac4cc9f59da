"""Sizes that a forward computes from the channels of one tensor and gives another.

`C // num_heads`, `C` read off the embedding, is the width of a head as long as all is whole. Where
it is not for what is kept, the size is written as -1, or as the number that it has to be where
several are, in all instances of a class alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import fx, nn
from torch.utils import _pytree as pytree

from prunecore.functions import FunctionRule, function_of
from prunecore.keep import Keep
from prunecore.records import Trace
from prunecore.rehearsal import Rehearsal
from prunecore.sizes import Count

_INFERRING = {"reshape", "view", "unflatten"}  # functions that find out a size given as -1

Functions = Mapping[Callable[..., Any], FunctionRule]


def resized(traces: Mapping[str, Trace], keep: Keep, functions: Functions) -> dict[str, Trace]:
    """The forwards, without the sizes that others' kept channels do not give.

    Args:
        traces: the followed forwards, by path.
        keep: what stays.
        functions: the rules.
    """
    wrong: dict[type[nn.Module], set[tuple[str, int]]] = {}
    for trace in traces.values():
        wrong.setdefault(type(trace.module), set()).update(_wrong(trace, keep, functions))
    return {
        path: _without(trace, places) if (places := wrong[type(trace.module)]) else trace
        for path, trace in traces.items()
    }


def _wrong(trace: Trace, keep: Keep, functions: Functions) -> Iterator[tuple[str, int]]:
    """The sizes that are not what they have to be: names of calls, and places of arguments."""
    rehearsal = Rehearsal(trace, keep, functions)
    for node in trace.graph.nodes:
        rule = functions.get(function_of(node))
        leaves, shape = pytree.tree_flatten((node.args, dict(node.kwargs)))
        counts = [place for place, leaf in enumerate(leaves) if _is_count(leaf, trace)]
        if rule is None or rule.rewrite is None or not counts:
            continue
        literal = [int(trace.values[x]) if _is_count(x, trace) else x for x in leaves]
        arguments = pytree.tree_unflatten(literal, shape)
        needed = pytree.tree_leaves(rule.rewrite(arguments, trace.values[node], keep))
        for place in counts:
            if rehearsal.value(leaves[place]) != needed[place]:
                yield node.name, place


def _without(trace: Trace, wrong: set[tuple[str, int]]) -> Trace:
    """A forward without these sizes."""
    result, copies = trace.copied()
    for node, copy in copies.items():
        leaves, shape = pytree.tree_flatten((copy.args, dict(copy.kwargs)))
        places = [place for place in range(len(leaves)) if (node.name, place) in wrong]
        is_inferred = len(places) == 1 and -1 not in leaves
        if places and is_inferred and function_of(node).__name__ in _INFERRING:
            leaves[places[0]] = -1
        else:
            for place in places:
                leaves[place] = int(result.values[leaves[place]])
        copy.args, copy.kwargs = pytree.tree_unflatten(leaves, shape)
    return result


def _is_count(leaf: Any, trace: Trace) -> bool:
    return isinstance(leaf, fx.Node) and isinstance(trace.values[leaf], Count)
