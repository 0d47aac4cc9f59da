"""What a user's forward calls the values that its trace computes."""

from __future__ import annotations

import builtins
import keyword
import re
import sys
from collections.abc import Hashable, Mapping
from types import FrameType

from torch import Tensor, fx

from prunecore.records import Trace
from prunecore.signal import Signal
from prunecore.source import RESERVED

NAMES = "names"  # what a node's meta calls the variables that hold it, the first one first
_TRACE = fx.Tracer.trace.__code__
_AMBIGUOUS = {"l", "O", "I"}  # which linters refuse


class LocalNames:
    """Notes in a trace's nodes which variables of the forward hold them.

    Args:
        file: that the forward is defined in; functions of other files have names of their own.
    """

    def __init__(self, file: str | None) -> None:
        self._file = file
        self._frames: list[FrameType] = []  # of the forward and of what it has called, in order

    def note(self) -> None:
        """Look at the variables of what is running; afterwards, at those that it has ended with."""
        self._frames = _running(self._file) or self._frames
        for frame in self._frames:
            for name, value in frame.f_locals.items():
                if isinstance(value, fx.Proxy):
                    held = vars(value)
                    _add(held.get("node", held.get("_node")), name)  # once it is used, if it is

    def note_made(self, node: fx.Node, made: Tensor) -> None:
        """Look for the variables that hold a tensor which a node makes."""
        for frame in self._frames:
            for name, value in frame.f_locals.items():
                if value is made:
                    _add(node, name)

    def end(self) -> None:
        """Look at what the forward has ended with, and let go of it."""
        self.note()
        self._frames = []


def _running(file: str | None) -> list[FrameType]:
    """The frames of a file's functions that are traced, the outermost first."""
    frames: list[FrameType] = []
    frame = sys._getframe(2) if file else None
    while frame is not None and frame.f_code is not _TRACE:
        if frame.f_code.co_filename == file:
            frames.insert(0, frame)
        frame = frame.f_back
    return frames


def _add(node: fx.Node | None, name: str) -> None:
    """Note that a variable holds what a node computes, where there is one already."""
    if node is not None and name not in node.meta.get(NAMES, ()):
        node.meta[NAMES] = (*node.meta.get(NAMES, ()), name)


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
    """Whether a tensor is used once, to make another one of it alone."""
    if len(node.users) > 1:
        return False
    return any(
        isinstance(trace.values.get(one), Signal)
        and [x for x in one.all_input_nodes if isinstance(trace.values[x], Signal)] == [node]
        for one in node.users
    )


def _is_good(name: str) -> bool:
    return (
        name.isidentifier()  # that of a comprehension's iterator is none
        and not name.startswith("_")
        and not keyword.iskeyword(name)
        and not hasattr(builtins, name)
        and name not in RESERVED
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
