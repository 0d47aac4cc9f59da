"""Selections of places by their number, rewritten for the places that are kept.

Half of `x.chunk(2, 1)` is no half any more when more went of one part than of the other, and a
shuffle of groups needs groups of one size. Where the call as it stands would not take the places
that are kept, it is written as a split, a slice or an index; in all instances of a class alike.
"""

from __future__ import annotations

import operator
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import fx

from prunecore.channels.ids import Ids
from prunecore.channels.keep import Keep
from prunecore.channels.records import Trace
from prunecore.channels.signal import Picked, Signal
from prunecore.tracing.nodes import IS_COPY, function_of
from prunecore.walking.calls import Functions, picking
from prunecore.writing.passes.rehearsal import Rehearsal, rehearsals
from prunecore.writing.text import LONGEST_ROW, Call, Name, Value, free_name


@dataclass(frozen=True)
class Selection:
    """A call that takes places of a tensor, for the kept ones.

    Attributes:
        node: the call.
        source: the node of the tensor, before all functions that moved places on the way.
        axis: the axis of the tensor that places are taken along.
        rank: the tensor's.
        width: how many places it keeps along the axis.
        alone: whether places are taken along this axis alone.
        parts: what each tensor that it returns has: their numbers among the kept ones.
        sizes: how many these are.
        starts: how many kept places lie before the first of each.
        stands: whether the call as it stands takes these places.
        takes: what its function takes, as `FunctionRule` has it.
        copies: whether what it returns has to be a copy.
    """

    node: fx.Node
    source: fx.Node
    axis: int
    rank: int
    width: int
    alone: bool
    parts: tuple[Ids, ...]
    sizes: tuple[int, ...]
    starts: tuple[int, ...]
    stands: bool
    takes: str | None
    copies: bool

    @property
    def is_split(self) -> bool:
        """True if it returns several tensors."""
        return len(self.parts) > 1

    @property
    def is_set(self) -> bool:
        """True if the places are assigned to."""
        return self.node.target is operator.setitem

    @property
    def is_run(self) -> bool:
        """True if it may be a slice: the places lie next to each other and keep their order."""
        return not self.copies and bool((np.diff(self.parts[0]) == 1).all())

    @property
    def is_all(self) -> bool:
        """True if it takes every place, in order."""
        all_places = np.array_equal(self.parts[0], np.arange(self.width))
        is_view = not self.is_split and not self.copies and not self.is_set
        return self.alone and is_view and all_places


def with_kept_selections(
    traces: Mapping[str, Trace], keep: Keep, functions: Functions
) -> dict[str, Trace]:
    """The forwards with the calls that take places by their number as the kept ones need them.

    Args:
        traces: the followed forwards, by path.
        keep: what stays.
        functions: the rules.
    """
    found = {path: _selections(trace, keep, functions) for path, trace in traces.items()}
    alike: dict[Hashable, list[str]] = {}
    for path, selections in found.items():
        calls = tuple((one.node.op, one.node.target) for one in selections)
        alike.setdefault((type(traces[path].module), calls), []).append(path)
    result = dict(traces)
    for paths in alike.values():
        members = [found[path] for path in paths]
        change = [not all(one.stands for one in column) for column in zip(*members, strict=True)]
        if any(change):
            edits = _Edits([traces[path] for path in paths], members, change)
            result |= dict(zip(paths, edits.apply(), strict=True))
    return result


def _selections(trace: Trace, keep: Keep, functions: Functions) -> list[Selection]:
    """The calls of a forward that take places by their number, in order."""
    tried = rehearsals(trace, keep, functions)
    selections = []
    for node in trace.graph.nodes:
        by_axis: dict[int, list[tuple[Signal, Picked]]] = {}  # a parameter may have several
        for signal, picked in picking(trace, node):
            (axis,) = picked.source.channel_axes
            by_axis.setdefault(axis, []).append((signal, picked))
        for taken in by_axis.values():
            rule = functions.get(function_of(node))
            selections.append(_selection(node, taken, tried, keep, rule.takes if rule else None))
    return selections


def _selection(
    node: fx.Node,
    taken: Sequence[tuple[Signal, Picked]],
    tried: Sequence[Rehearsal],
    keep: Keep,
    takes: str | None,
) -> Selection:
    run = [one for one in tried if one.runs(node)]
    signals = [signal for signal, _ in taken]
    tensor = taken[0][1].source
    (axis,) = tensor.channel_axes
    ids = tensor.ids.ravel()
    stays = keep.mask(ids)
    numbers = np.cumsum(stays) - 1  # among the kept places
    kept = [one.places[stays[one.places]] for _, one in taken]
    parts = tuple(numbers[places] for places in kept)
    return Selection(
        node=node,
        source=run[-1].source(node, tensor),
        axis=axis,
        rank=tensor.ndim,
        width=int(stays.sum()),
        alone=_others(signals[0].shape, axis) == _others(tensor.shape, axis),
        parts=parts,
        sizes=tuple(keep.count(ids[one.places]) for _, one in taken),
        starts=tuple(keep.count(ids[: places[0]]) if places[:1].any() else 0 for places in kept),
        stands=all(rehearsal.takes(node, tensor, signals, parts) for rehearsal in run),
        takes=takes,
        copies=node.meta.get(IS_COPY, False),
    )


def _others(shape: tuple[int, ...], axis: int) -> list[int | None]:
    """The sizes of all axes but one, which is there as well."""
    return [None if place == axis else size for place, size in enumerate(shape)]


class _Edits:
    """Writes some calls of the forwards of one class otherwise.

    Args:
        traces: the forwards.
        members: the calls of each that take places.
        change: which of these are written otherwise.
    """

    def __init__(
        self, traces: Sequence[Trace], members: Sequence[Sequence[Selection]], change: list[bool]
    ) -> None:
        self.traces = traces
        self.columns = [
            column
            for column, changes in zip(zip(*members, strict=True), change, strict=True)
            if changes
        ]
        self.taken = {name for trace in traces for name in dir(trace.module)}

    def apply(self) -> list[Trace]:
        """The forwards, in order."""
        copies = [trace.copied() for trace in self.traces]
        orders: list[dict[str, Value]] = [{} for _ in self.traces]
        names: dict[str, str] = {}  # of the lists, by what is in them
        for column in self.columns:
            if all(one.is_all for one in column):
                for one, (_, nodes) in zip(column, copies, strict=True):
                    nodes[one.node].replace_all_uses_with(nodes[one.source])
                    nodes[one.node] = nodes[one.source]  # what later calls take places of
                continue
            places = _orders([one.parts[0] for one in column])
            name = ""
            if not column[0].is_split and not all(one.is_run for one in column):
                name = names.setdefault(repr(places), free_name("order", self.taken))
                self.taken.add(name)
            differs = len({(one.starts, one.sizes) for one in column}) > 1
            even = all(len(set(one.sizes)) == 1 for one in column)
            for one, (_, nodes), lists, order in zip(column, copies, orders, places, strict=True):
                if name:
                    lists[name] = order
                if one.is_split:
                    _split(one, nodes, even)
                else:
                    _index(one, nodes, name, differs)
        return [
            replace(trace, orders=lists) for (trace, _), lists in zip(copies, orders, strict=True)
        ]


def _orders(orders: Sequence[Ids]) -> list[Value]:
    """Lists of places as the constructors of one class have them: long ones as parts in turn."""
    parts = [_parts(order) for order in orders]
    if max(map(len, orders)) > LONGEST_ROW and all(parts):
        return [Call("interleaved", (digits,)) for digits in parts]
    return [order.tolist() for order in orders]


def _parts(order: Ids) -> str:
    """The part that each place comes from, where parts that lie one after the other keep theirs.

    Returns:
        A digit a place; nothing if it is not every place once, if there are none, or more parts.
    """
    if not len(order) or not np.array_equal(np.sort(order), np.arange(len(order))):
        return ""
    begins = np.diff(np.argsort(order), prepend=0) < 0
    parts = np.cumsum(begins)
    return "".join(map(str, parts[order])) if parts[-1] <= 9 else ""


_TENSOR_SPLITS = (torch.tensor_split, torch.Tensor.tensor_split)


def _split(one: Selection, nodes: Mapping[fx.Node, fx.Node], even: bool) -> None:
    """Write one call as a split; `even` if the parts are of one size in all instances."""
    node = nodes[one.node]
    parts: Any
    if function_of(node) in _TENSOR_SPLITS:  # its parts alone may be changed in place in training
        parts = len(one.sizes) if even else list(one.starts[1:])
    else:
        node.target = "split" if node.op == "call_method" else torch.split
        parts = one.sizes[0] if even else list(one.sizes)
    node.args, node.kwargs = (nodes[one.source], parts, one.axis), {}


def _index(one: Selection, nodes: Mapping[fx.Node, fx.Node], name: str, differs: bool) -> None:
    """Write one call as an index.

    Args:
        one: the call.
        nodes: of the graph that is edited, by those of the call's own.
        name: the attribute that lists the places; empty where they are a run.
        differs: whether other instances of the class take other places.
    """
    node, source = nodes[one.node], nodes[one.source]
    if node.target == "narrow" and one.node.target != "narrow":
        return  # along another axis, alone: along this one it takes all
    items, place = _items(one, node)
    if isinstance(items[place], int):
        items[place] = int(one.parts[0][0])
    elif name:
        items[place] = Name(f"self.{name}")
    elif one.alone and not one.is_set and (differs or one.takes == "run"):
        node.op, node.target = "call_method", "narrow"
        node.args, node.kwargs = (source, one.axis, one.starts[0], one.sizes[0]), {}
        return
    else:
        stop = one.starts[0] + one.sizes[0]
        items[place] = slice(one.starts[0] or None, None if stop == one.width else stop)
    while len(items) > 1 and items[-1] == slice(None):
        items.pop()
    index = tuple(items) if len(items) > 1 else items[0]
    if one.is_set:
        node.args = (source, index, node.args[2])
        return
    node.op, node.target = "call_function", operator.getitem
    node.args, node.kwargs = (source, index), {}


def _items(one: Selection, node: fx.Node) -> tuple[list[Any], int]:
    """The call as the items of an index, and the place of that which takes channels."""
    if one.takes == "one":
        return [*[slice(None)] * one.axis, 0], one.axis
    if node.target not in (operator.getitem, operator.setitem):
        return [slice(None)] * (one.axis + 1), one.axis
    index: Any = node.args[1]
    items = list(index) if isinstance(index, tuple) else [index]
    if ... in items:
        at = items.index(...)
        taken = sum(item is not None and item is not ... for item in items)
        items[at : at + 1] = [slice(None)] * (one.rank - taken)
    axes = [number for number, item in enumerate(items) if item is not None]
    return items, axes[one.axis]
