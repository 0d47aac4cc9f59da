"""Original names: what a user's forward calls the values that its trace computes."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping

from torch import fx

from prunecore.channels.records import Trace
from prunecore.channels.signal import Signal
from prunecore.escaping import is_name
from prunecore.tracing.source_lines import NAMES
from prunecore.writing.text import is_taken

_AMBIGUOUS = {"l", "O", "I"}  # which linters refuse


def local_names(trace: Trace) -> dict[fx.Node, list[str]]:
    """The names that a written forward may take over, by node; what is on its way has the next.

    Those come last that something else has before the node is used for the last time.
    """
    names: dict[fx.Node, list[str]] = {}
    last_use: dict[fx.Node, int] = {}
    taken_at: dict[str, int] = {}
    nodes = list(trace.graph.nodes)
    for place in reversed(range(len(nodes))):
        node = nodes[place]
        own = [name for name in node.meta.get(NAMES, ()) if _is_good(name)]
        last = last_use.get(node, place)
        taken = {name for name in own if taken_at.get(name, last) < last}
        names[node] = sorted(own, key=taken.__contains__)
        if not own and _is_on_its_way(node, trace):
            names[node] = next(names[user] for user in node.users)
        taken_at |= dict.fromkeys(names[node][:1], place)
        for source in node.all_input_nodes:
            last_use.setdefault(source, place)
    return names


def _is_on_its_way(node: fx.Node, trace: Trace) -> bool:
    """True if a tensor is used once, to make another one of it alone."""
    if len(node.users) > 1:
        return False
    return any(
        isinstance(trace.values.get(one), Signal)
        and [x for x in one.all_input_nodes if isinstance(trace.values[x], Signal)] == [node]
        for one in node.users
    )


def _is_good(name: str) -> bool:
    return (
        is_name(name)  # that of a comprehension's iterator is none
        and not name.startswith("_")
        and not is_taken(name)
        and name not in _AMBIGUOUS
    )


def disagreeing(traces: Mapping[str, Trace]) -> set[str]:
    """Those of one class's forwards that compute the same and have other names for it.

    Args:
        traces: the forwards, by path; a loop may take more turns in one than in another.
    """
    told: dict[Hashable, dict[Hashable, list[str]]] = {}
    for path, trace in traces.items():
        calls = [(node.op, _described(node.target)) for node in trace.graph.nodes]
        names = [node.meta.get(NAMES, ()) for node in trace.graph.nodes]
        what = tuple(dict.fromkeys(calls))
        how = tuple(dict.fromkeys(zip(calls, names, strict=True)))
        told.setdefault(what, {}).setdefault(how, []).append(path)
    return {
        path for ways in told.values() if len(ways) > 1 for paths in ways.values() for path in paths
    }


def _described(target: Hashable) -> Hashable:
    return re.sub(r"\d+", "", target) if isinstance(target, str) else target
