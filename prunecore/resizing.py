"""Reshapes to a size that a forward reads off another tensor, which is cut otherwise.

`y.reshape(*x.shape)` is of the same size as `x` only while both have equally many channels. Where
that is no longer so, the size is written as a number; in all instances of a class alike.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx

from prunecore.functions import FunctionRule
from prunecore.keep import Keep
from prunecore.records import Trace
from prunecore.rehearsal import Rehearsal
from prunecore.signal import Signal
from prunecore.sizes import Count

_RESHAPES = ("reshape", "view", torch.reshape)

Place = tuple[int, int]  # the number of a node in its graph, and the axis of the result


def resized(
    traces: Mapping[str, Trace], keep: Keep, functions: Mapping[Callable[..., Any], FunctionRule]
) -> dict[str, Trace]:
    """The forwards with the sizes as numbers that would not be those of the kept channels.

    Args:
        traces: the followed forwards, by path.
        keep: what stays.
        functions: the rules.
    """
    alike: dict[Hashable, list[str]] = {}
    for path, trace in traces.items():
        calls = tuple((node.op, node.target) for node in trace.graph.nodes)
        alike.setdefault((type(trace.module), calls), []).append(path)
    result = dict(traces)
    for paths in alike.values():
        wrong = {place for path in paths for place in _wrong(traces[path], keep, functions)}
        if wrong:
            result |= {path: _with_numbers(traces[path], wrong) for path in paths}
    return result


def _wrong(
    trace: Trace, keep: Keep, functions: Mapping[Callable[..., Any], FunctionRule]
) -> list[Place]:
    """The sizes that count other channels than lie along the axis."""
    rehearsal = Rehearsal(trace, keep, functions)
    return [
        (number, axis)
        for number, node in enumerate(trace.graph.nodes)
        for axis, size in enumerate(_sizes(node))
        if isinstance(size, fx.Node)
        and isinstance(trace.values[size], Count)
        and _is_rectangle(trace.values[node], keep)
        and rehearsal.number(size) != keep.size(trace.values[node], axis)
    ]


def _sizes(node: fx.Node) -> Sequence[Any]:
    """The sizes that a tensor is reshaped to."""
    if node.target not in _RESHAPES or len(node.args) < 2:
        return ()
    first = node.args[1]
    return first if isinstance(first, tuple | list) else node.args[1:]


def _is_rectangle(signal: Signal, keep: Keep) -> bool:
    """Whether what stays of a tensor's channels is a rectangle, as a tensor must be."""
    stays = keep.mask(signal.ids)
    lengths = [stays.any(tuple({*range(stays.ndim)} - {axis})).sum() for axis in range(stays.ndim)]
    return int(np.prod(lengths)) == int(stays.sum())


def _with_numbers(trace: Trace, places: set[Place]) -> Trace:
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    graph.output(graph.graph_copy(trace.graph, copies))
    for number, node in enumerate(trace.graph.nodes):
        axes = [axis for own, axis in places if own == number]
        if axes:
            sizes = list(_sizes(copies[node]))
            for axis in axes:
                sizes[axis] = trace.values[node].shape[axis]
            copies[node].args = (copies[node].args[0], *sizes)
    values = {copies[node]: value for node, value in trace.values.items() if node in copies}
    return replace(trace, graph=graph, values=values)
