"""Tensors that share memory, or are copies, and are changed in place: what has to stay so.

`y[:, ::2]` is a view of `y`; what is written for the kept places may be an index, which copies.
The other way round, an index may become a slice, and a reshape of what lies in order is a view, as
of which one of two widths that is depends. As long as nothing is changed in place, that is all the
same. Where something is, a copy by an index stays a copy; else, where the other of the two is read
afterwards, the channels are left whole.
"""

from __future__ import annotations

import operator
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from prunecore.channels.ids import Ids
from prunecore.channels.names import named_modules
from prunecore.channels.records import Forwards, Trace
from prunecore.channels.signal import Signal
from prunecore.inputs import Arguments
from prunecore.tracing.modules.changes import function_may_change_tensors, may_change_tensors
from prunecore.tracing.nodes import BY_LAYOUT, IS_COPY, function_of, is_in_place
from prunecore.tracing.stand_ins.autograd_functions import Applied
from prunecore.walking.calls import picking, way
from prunecore.walking.memory import Memory, Replay, Watched, overlap, place
from prunecore.walking.walk import Walk

_REASON = "what a function takes of it shares its memory or does not, and one is changed in place"

_UNKNOWN = "a function takes places of it, and what is changed in place is not known"


# what is raised where a forward asks for the numbers in a tensor that has none
_BY_NUMBERS = (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError)


# The functions whose copies stay copies, whatever widths there are.
_LISTING = frozenset(
    [operator.getitem, torch.index_select, Tensor.index_select, torch.roll, Tensor.roll]
)


@dataclass(frozen=True)
class Call:
    """A call whose result may be a view of a tensor, or a copy.

    Attributes:
        node: the call.
        way: the nodes that lead to it, from the tensor to the call.
        ids: of the tensor.
        is_run: whether it takes places that lie next to each other of the very tensor.
        can_copy: whether it can be written as an index with a list, which copies.
        copies: whether it is one already, or a function that copies as well.
    """

    node: fx.Node
    way: Sequence[fx.Node]
    ids: Sequence[Ids]
    is_run: bool
    can_copy: bool
    copies: bool = False


# the calls that take places in the forwards of one class: for each place in it, those of all paths
Columns = list[list[tuple[str, Call]]]


# the forwards that a network goes through, by path and by the arguments that are `None`
Ways: TypeAlias = Mapping[str, Mapping[frozenset[str], Trace]]


def pin_aliases(walk: Walk, model: nn.Module, inputs: Arguments, in_training: bool) -> None:
    """Leave whole what would no longer share memory that is changed in place, or begin to.

    Args:
        walk: the walk, when it has followed the network.
        model: the network.
        inputs: what the walk was for, on the meta device.
        in_training: whether it was followed as it trains.
    """
    natural, *others = _for_all_sizes(walk.records.forwards)
    _pin_along(natural, walk, model, inputs, in_training)
    for ways in others:
        _pin_along(ways, walk, model, inputs, in_training)


def _for_all_sizes(forwards: Forwards) -> list[Ways]:
    """What a network goes through for inputs of the given size, and for those of others.

    Of each forward it is one way after the other, as if all were of the same branches.
    """
    each = {
        (path, absent): [natural, *forwards.for_other_sizes(path, absent)]
        for path, ways in forwards.ways.items()
        for absent, natural in ways.items()
    }
    return [
        {
            path: {
                absent: (each[path, absent][number:] or each[path, absent])[0] for absent in ways
            }
            for path, ways in forwards.ways.items()
        }
        for number in range(max(map(len, each.values()), default=1))
    ]


def _each(*several: Ways) -> list[tuple[str, Trace]]:
    """All forwards, with their paths."""
    return [(path, trace) for ways in several for path in ways for trace in ways[path].values()]


def _pin_along(
    ways: Ways, walk: Walk, model: nn.Module, inputs: Arguments, in_training: bool
) -> None:
    """Do as `pin_aliases` for a network that goes these ways."""
    traces = _each(ways)
    columns = _taking(traces)
    taking = {(path, call.node): call for column in columns for path, call in column}
    by_layout = {
        (path, call.node): call
        for path, trace in (traces if taking or _is_strided(traces) else ())
        for call in _by_layout(trace)
    }
    calls = {**by_layout, **taking}
    if not calls or not _may_change(walk, model, traces, in_training):
        return
    watched: dict[str, dict[fx.Node, Sequence[fx.Node]]] = {}
    for (path, node), call in calls.items():
        watched.setdefault(path, {})[node] = call.way
    as_in_eval = walk.traced.as_in_eval if in_training else ()
    replay = Replay(model, ways, watched, in_training, as_in_eval)
    errors = (Exception,) if walk.records.forwards.barriers else _BY_NUMBERS
    try:
        replay.run(inputs)
    except errors:  # whatever a user's forward raises, where it is behind a barrier
        for call in taking.values():
            if call.copies:
                call.node.meta[IS_COPY] = True
            for ids in () if call.is_run or call.copies else call.ids:
                walk.pin(ids, _UNKNOWN)
        return
    for ids in _found(replay, columns, taking, by_layout):
        walk.pin(ids, _REASON)


def _may_change(
    walk: Walk, model: nn.Module, traces: Sequence[tuple[str, Trace]], in_training: bool
) -> bool:
    """True if a network may change any tensor in place, as what stands as it is may."""
    if walk.records.forwards.barriers:
        return True
    if any(
        is_in_place(node)
        or isinstance(node.target, Applied)
        or function_may_change_tensors(node.target)
        for _, trace in traces
        for node in trace.graph.nodes
        if node.op in ("call_function", "call_method")
    ):
        return True
    traced = {path for path, _ in traces}
    return any(
        may_change_tensors(module, in_training)
        for path, module in named_modules(model)
        if path not in traced
    )


def _found(
    replay: Replay,
    columns: Columns,
    taking: Mapping[tuple[str, fx.Node], Call],
    by_layout: Mapping[tuple[str, fx.Node], Call],
) -> Iterator[Ids]:
    """The ids of what has to stay.

    Args:
        replay: the network, when it has run.
        columns: the calls that take places.
        taking: the same, by path and node.
        by_layout: the calls whose result depends on how a tensor lies in memory.
    """
    in_memory: dict[int, list[Ids]] = {}  # what places are taken of, by where these lie
    wrong = set()
    stay_runs = {
        key: all(call.is_run for _, call in column)
        for column in columns
        for key in ((path, call.node) for path, call in column)
    }
    for one in replay.calls:
        key = (one.path, one.node)
        if key in taking:
            for tensor in (*_leaves(one.values[0]), *_leaves(one.values[-1])):
                in_memory.setdefault(place(tensor), []).extend(taking[key].ids)
            if _is_wrong_as_other(one, replay.memory, stay_runs[key]):
                wrong.add(key)
            elif taking[key].can_copy:
                if _is_changed_copy(one, replay.memory):
                    one.node.meta[IS_COPY] = True
            elif _is_wrong_as_view(one, replay.memory):
                wrong.add(key)
    for column in columns:  # what one of them is written as, the others are, too
        if any((path, call.node) in wrong for path, call in column):
            yield from (ids for _, call in column for ids in call.ids)
    for one in replay.calls:
        (source,) = _leaves(one.values[0])[:1]
        around = in_memory.get(place(source), [])
        if (one.path, one.node) in taking or (source.is_contiguous() and not around):
            continue
        is_wrong = _is_wrong_as_other(one, replay.memory, False)
        if is_wrong or _is_wrong_as_view(one, replay.memory):
            yield from (*by_layout[one.path, one.node].ids, *around)


def _taking(traces: Sequence[tuple[str, Trace]]) -> Columns:
    """The calls that take places of a tensor's channels by their number."""
    alike: dict[Hashable, list[list[tuple[str, Call]]]] = {}
    for path, trace in traces:
        if not trace.takes_places:
            continue
        row = []
        for node in trace.graph.nodes:
            picks = [] if node.target is operator.setitem else picking(trace, node)
            if picks:
                sources = {id(picked.source): picked.source for _, picked in picks}
                steps = way(trace, node, picks[0][1].source)
                is_run = len(steps) == 2 and all(
                    (np.diff(picked.places) == 1).all() for _, picked in picks
                )
                ids = [source.ids for source in sources.values()]
                can_copy = len(steps) == 2 and function_of(node) in _LISTING
                copies = can_copy and _copies(trace, node)
                row.append((path, Call(node, steps, ids, is_run, can_copy, copies)))
        key = (type(trace.module), tuple((call.node.op, call.node.target) for _, call in row))
        alike.setdefault(key, []).append(row)
    return [list(column) for rows in alike.values() for column in zip(*rows, strict=True)]


def _copies(trace: Trace, node: fx.Node) -> bool:
    """True if a call that lists places copies them: an index with slices and numbers does not."""
    if node.target is not operator.getitem:
        return True
    index: Any = node.args[1]
    return any(
        isinstance(one, list)
        or (isinstance(one, fx.Node) and isinstance(trace.values[one], Signal))
        for one in (index if isinstance(index, tuple) else [index])
    )


def _by_layout(trace: Trace) -> Iterator[Call]:
    """The calls whose result is a view or a copy, as the tensor lies in memory."""
    for node in trace.graph.nodes:
        if node.op not in ("call_function", "call_method"):
            continue
        if function_of(node) in BY_LAYOUT:
            (source, *_) = node.all_input_nodes
            signal = trace.values[source]
            if isinstance(signal, Signal) and signal.channel_axes:
                yield Call(node, [source, node], [signal.ids], is_run=False, can_copy=False)


def _is_strided(traces: Sequence[tuple[str, Trace]]) -> bool:
    """True if places of a tensor that lie next to each other need not do so in memory."""
    return any(
        isinstance(value, Signal) and not value.meta.is_contiguous()
        for _, trace in traces
        for value in trace.values.values()
    )


def _is_wrong_as_other(call: Watched, memory: Memory, stays_view: bool) -> bool:
    """True if a change in place would be lost if a call were written as an index of the tensor.

    Args:
        call: the call.
        memory: what was done to memory.
        stays_view: whether what is a view now is written as one in any case.
    """
    (source,) = _leaves(call.values[0])[:1]
    before = [leaf for value in call.values[:-1] for leaf in _leaves(value)]
    copied = [
        time
        for value, time in zip(call.values[:-1], call.times, strict=False)
        for leaf in _leaves(value)
        if place(leaf) != place(source)
    ]
    if copied and _is_changed(before, memory, copied[0], call.times[-1]):
        return True
    return any(
        _is_shared(part, memory, call.times[-1])
        for part in _leaves(call.values[-1])
        if place(part) != place(source) or not stays_view
    )


def _is_wrong_as_view(call: Watched, memory: Memory) -> bool:
    """True if a call returns a copy, and a change in place would be seen in a view."""
    (source,) = _leaves(call.values[0])[:1]
    return any(
        _is_parted(part, source, memory, call.times[-1])
        for part in _leaves(call.values[-1])
        if place(part) != place(source)
    )


def _is_changed_copy(call: Watched, memory: Memory) -> bool:
    """True if a call returns a copy, and that or its original is changed in place afterwards.

    Of a view gradients might need what the change has overwritten, even if nothing else reads it.
    """
    (source,) = _leaves(call.values[0])[:1]
    copies = [part for part in _leaves(call.values[-1]) if place(part) != place(source)]
    tensors = [source, *copies] if copies else []
    return _is_changed(tensors, memory, call.times[-1], memory.time)


def _is_changed(tensors: Sequence[Tensor], memory: Memory, after: int, until: int) -> bool:
    """True if any of these tensors is changed in a time."""
    return any(
        one.is_write and one.time <= until
        for tensor in tensors
        for one in memory.accesses(tensor, after)
    )


def _is_shared(part: Tensor, memory: Memory, after: int) -> bool:
    """True if a change of a view is read in what it is a view of, or the other way round."""
    accesses = memory.accesses(part, after)
    return any(
        memory.is_of(write.tensor, part) != memory.is_of(read.tensor, part)
        and overlap(write.tensor, read.tensor)
        for number, write in enumerate(accesses)
        if write.is_write
        for read in accesses[number + 1 :]
        if not read.is_write
    )


def _is_parted(part: Tensor, source: Tensor, memory: Memory, after: int) -> bool:
    """True if a copy or its original is changed, and the other read afterwards."""
    of_copy, near = memory.accesses(part, after), memory.accesses(source, after)
    if not any(one.is_write for one in (*of_copy, *near)):
        return False
    of_source = [one for one in near if overlap(one.tensor, source)]
    return any(
        write.is_write and not read.is_write and read.time > write.time
        for writes, reads in ((of_copy, of_source), (of_source, of_copy))
        for write in writes
        for read in reads
    )


def _leaves(value: Any) -> list[Tensor]:
    """The tensors of what a node computes."""
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]
