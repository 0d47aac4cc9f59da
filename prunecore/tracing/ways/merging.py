"""Two graphs of one forward as one: in training and eval mode, with and without some inputs."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from typing import Any, TypeAlias, cast

from torch import Tensor, fx
from torch.utils import _pytree as pytree

from prunecore.channels.records import Trace
from prunecore.channels.signal import Computed, Picked, Signal, map_signals
from prunecore.tracing.conditions import (
    ONLY,
    OPTIONAL,
    ByMode,
    Condition,
    Side,
    choose,
    chosen_by,
    decide,
    only_in,
)
from prunecore.tracing.modules.attributes import TrainingFlag
from prunecore.tracing.nodes import IS_COPY, reads_shape
from prunecore.tracing.source_lines import LINE
from prunecore.tracing.ways.pairing import after_inputs, in_both, inputs_of, leaves_of, parting

# Told of two followed forwards, and of their nodes that are written as one.
Couple: TypeAlias = Callable[[Trace, Trace, Sequence[tuple[fx.Node, fx.Node]]], None]


def merged(traces: Mapping[bool, Trace], condition: Condition, base: bool, couple: Couple) -> Trace:
    """Two followed forwards of one module as one, whose nodes know in which they count.

    What both compute stands there once. Where it uses one thing in one of them and another one in
    the other, `choose` comes before it; where that is a number, such as the share that a dropout
    drops, it is given both.

    Args:
        traces: the forward where the condition holds, and where it does not.
        condition: what decides between them.
        base: the one whose values what both compute has.
        couple: called with the two before they are merged.
    """
    return _Merger(traces, condition, base).merge(couple)


class _Merger:
    def __init__(self, traces: Mapping[bool, Trace], condition: Condition, base: bool) -> None:
        self.traces = traces
        self.condition = condition
        self.base = base
        self.graph = fx.Graph()
        self.values: dict[fx.Node, Any] = {}
        # the node of the merged graph for each of the two graphs' nodes
        self.copies: dict[bool, dict[fx.Node, fx.Node]] = {True: {}, False: {}}
        self.alone: set[fx.Node] = set()  # inputs that are `None` on one side
        self.choices: dict[Any, fx.Node] = {}  # by what they are between, and where
        self.metas: dict[int, Tensor] = {}  # those of the base, by those of the other
        self.known: dict[int, Signal] = {}  # tensors as the merged graph has them

    def merge(self, couple: Couple) -> Trace:
        self._copy_inputs()
        rest = {side: after_inputs(trace.graph) for side, trace in self.traces.items()}
        ours, theirs = (self.traces[side].graph for side in (self.base, not self.base))
        by_sizes = bool(self.condition.sizes)
        pairs = _pairs_of(ours, theirs, by_sizes)
        couple(self.traces[self.base], self.traces[not self.base], pairs)
        # what comes before them is done in any case
        guards = parting(theirs, ours) if by_sizes else None
        for pair in pairs:
            of_side = {self.base: pair[0], not self.base: pair[1]}
            if pair[0].op == "placeholder":
                continue
            for side in (True, False):
                place = rest[side].index(of_side[side])
                for alone in rest[side][:place]:
                    self._copy(alone, side, None if guards else (self.condition, side))
                rest[side] = rest[side][place + 1 :]
            if guards and pair[1] is guards[0]:
                self._decide(of_side[True])
                guards = None
            elif pair[0].op == "output":
                self._copy(pair[0], self.base, None)
            else:
                self._copy_pair(of_side)
        if rest[True] or rest[False]:
            self._copy_ends(rest)
        trace = self.traces[self.base]
        return Trace(trace.module, self.graph, self.values, trace.output)

    def _decide(self, guard: fx.Node) -> None:
        """Ask for what a branch on sizes asks for, as the side has it where that holds."""
        asked: Any = guard.args[0]
        given: Any = ((self.copies[True][asked],), self.condition.sizes)
        decision = self.graph.call_function(decide, given)
        decision.meta[LINE] = guard.meta.get(LINE)
        self.values[decision] = True

    def _copy_inputs(self) -> None:
        """Copy the inputs, in the order of the signature; one that one side lacks is optional."""
        given = {side: inputs_of(trace.graph) for side, trace in self.traces.items()}
        module = self.traces[self.base].module
        order = list(inspect.signature(module.forward).parameters)
        names = [*given[self.base], *(given[not self.base].keys() - given[self.base].keys())]
        if any(name not in order for name in names):  # the items of *args, which both sides have
            order = names
        for name in sorted(names, key=order.index):
            sides = [side for side in (self.base, not self.base) if name in given[side]]
            copy = self.graph.node_copy(given[sides[0]][name])
            copy.meta[OPTIONAL] = len(sides) == 1 or any(
                given[side][name].meta.get(OPTIONAL, False) for side in sides
            )
            if len(sides) == 1:
                self.alone.add(copy)
            self.values[copy] = self.traces[sides[0]].values[given[sides[0]][name]]
            for side in sides:
                self.copies[side][given[side][name]] = copy
            if len(sides) == 2:
                self._note_metas({side: given[side][name] for side in sides})

    def _copy_ends(self, rest: Mapping[bool, list[fx.Node]]) -> None:
        """Copy what comes after all that both do, up to what they return."""
        ends = [self._mapped(rest[side][-1], side) for side in (True, False)]
        if all(len(nodes) == 1 for nodes in rest.values()) and ends[0] == ends[1]:
            self._copy(rest[self.base][0], self.base, None)
            return
        # what training does comes first, and of two ways by an argument the shorter one
        first = not self.condition.argument or len(rest[True]) <= len(rest[False])
        for node in rest[first]:
            self._copy(node, first, (self.condition, first))
        for node in rest[not first]:
            self._copy(node, not first, None)

    def _mapped(self, node: fx.Node, side: bool) -> Any:
        return fx.node.map_arg(node.args, self.copies[side].get)

    def _of_merged(self, signal: Signal) -> Signal:
        """A tensor of one side as the base has it: what it is an item of, or was taken of."""
        meta = self.metas.get(id(signal.meta), signal.meta)
        picked = signal.origin_as(Picked)
        if picked is None or id(picked.source.meta) not in self.metas:
            return signal if meta is signal.meta else replace(signal, meta=meta)
        if id(signal) not in self.known:
            source = replace(picked.source, meta=self.metas[id(picked.source.meta)])
            of_base = replace(picked, source=source)
            own = signal.origin
            origin = replace(own, before=of_base) if isinstance(own, Computed) else of_base
            self.known[id(signal)] = replace(signal, meta=meta, origin=origin)
        return self.known[id(signal)]

    def _copy(self, node: fx.Node, side: bool, only: Side | None) -> None:
        sources = [self.copies[side][source] for source in node.all_input_nodes]
        is_free = not self.condition.sizes and not only_in(node) and _is_size(node)
        if is_free and all(map(self._is_always_there, sources)):
            only = None  # what has several uses stands once, as the forward has it
        copy = self.graph.node_copy(node, self.copies[side].__getitem__)
        if only is not None:
            copy.meta[ONLY] = (only, *only_in(node))
        self.copies[side][node] = copy
        if node in self.traces[side].values:
            value = self.traces[side].values[node]
            self.values[copy] = map_signals(self._of_merged, value)

    def _is_always_there(self, copy: fx.Node) -> bool:
        """True if something is computed in any case, and is no input that may be `None`."""
        return not only_in(copy) and not copy.meta.get(OPTIONAL, False)

    def _copy_pair(self, pair: Mapping[bool, fx.Node]) -> None:
        """Copy what both do, after the choices between what they do it with."""
        used: list[Any] = []  # in the order of the arguments, in which one may stand for several
        for leaves in zip(*(leaves_of(pair[side]) for side in (True, False)), strict=True):
            if not any(isinstance(leaf, fx.Node) for leaf in leaves):
                used.append(self._number(*leaves))
                continue
            both = self._one_of(self._copied(leaves[0], True), self._copied(leaves[1], False))
            if both[0] is both[1]:
                used.append(both[0])
                continue
            used.append(self._choice(both, only_in(pair[self.base])))
        leaves_used = iter(used)
        copy = self.graph.node_copy(pair[self.base], self.copies[self.base].__getitem__)
        copy.args, copy.kwargs = fx.node.map_aggregate(
            (pair[self.base].args, pair[self.base].kwargs), lambda _: next(leaves_used)
        )
        copy.meta[IS_COPY] = any(node.meta.get(IS_COPY, False) for node in pair.values())
        self.values[copy] = self.traces[self.base].values[pair[self.base]]
        self._note_metas(pair)
        for side, node in pair.items():
            self.copies[side][node] = copy

    def _number(self, if_so: Any, if_not: Any) -> Any:
        """An argument of both sides that is no node; they differ in fractions, in training."""
        if isinstance(if_so, TrainingFlag) or repr(if_so) == repr(if_not):
            return if_so
        return ByMode.of(in_training=if_so, in_eval=if_not)

    def _choice(self, both: tuple[Any, Any], only: tuple[Side, ...]) -> fx.Node:
        """What stands for one of two things, for a node that lies within some branches.

        It is chosen right after the branch that computes it, if one does.
        """
        nodes: list[fx.Node] = list(self.graph.nodes)
        at = max(nodes.index(node) for node in both if node is not None)
        inner = only_in(nodes[at])[-1:]
        around = only_in(nodes[at])[:-1]
        if inner and inner[0][0] == self.condition and self._are_known_in(both, around):
            only = around
            while at + 1 < len(nodes) and _lies_in(nodes[at + 1], self.condition, len(only)):
                at += 1
        else:
            at = len(nodes) - 1
        for depth in range(len(only) + 1):
            if (both, only[:depth]) in self.choices:
                return self.choices[both, only[:depth]]
        given: Any = (self.condition, *both)
        with self.graph.inserting_after(nodes[at]):
            choice = self.graph.call_function(choose, given)
        choice.meta[ONLY] = only
        of_base, other = both if self.base else both[::-1]
        self.values[choice] = self.values[other if of_base is None else of_base]
        self.choices[both, only] = choice
        return choice

    def _are_known_in(self, both: tuple[Any, Any], around: tuple[Side, ...]) -> bool:
        """True if two things are computed in any case within some branches and this one."""
        own = [
            tuple(side for side in only_in(node) if side[0] != self.condition)
            for node in both
            if node is not None
        ]
        return all(sides == around[: len(sides)] for sides in own)

    def _copied(self, leaf: Any, side: bool) -> Any:
        """An argument of one side as the merged graph has it."""
        return self.copies[side][leaf] if isinstance(leaf, fx.Node) else leaf

    def _one_of(self, *both: Any) -> tuple[Any, Any]:
        """What the two sides use, as one where it is: an input that is `None` in one of them."""
        for one, other in (both, both[::-1]):
            if other is None and one in self.alone:
                return one, one
        if all(isinstance(node, fx.Node) for node in both) and _is_same_tensor(*both):
            of_base = both[not self.base]  # whatever the other has done to it
            return of_base, of_base
        return both[0], both[1]

    def _note_metas(self, pair: Mapping[bool, fx.Node]) -> None:
        """Note what the tensors of one side are in the base."""
        values = [self.traces[side].values[pair[side]] for side in (not self.base, self.base)]
        trees = [pytree.tree_flatten(value) for value in values]
        # a submodule may return more in one of them, of which only what that does takes parts
        leaves = [tree[0] for tree in trees] if trees[0][1] == trees[1][1] else [[], []]
        for theirs, ours in zip(*leaves, strict=True):
            if isinstance(theirs, Signal) and isinstance(ours, Signal):
                self.metas[id(theirs.meta)] = ours.meta


def _is_size(node: fx.Node) -> bool:
    """True for `x.shape` and `x.shape[1]`, which cost nothing."""
    source = node.args[0] if node.target is operator.getitem else node
    return isinstance(source, fx.Node) and reads_shape(source)


def _pairs_of(ours: fx.Graph, theirs: fx.Graph, by_sizes: bool) -> list[tuple[fx.Node, fx.Node]]:
    """The nodes that are one in two graphs, among them what asks for the same sizes.

    Args:
        ours: the one graph.
        theirs: the other one; what it asks for may get other numbers.
        by_sizes: whether they part at a branch on sizes.
    """
    apart: set[str] = set()
    of_ours = set(_numbers(ours).values())
    while True:
        numbers = _share_conditions(theirs, ours, apart)
        pairs = in_both(ours, theirs, by_sizes)
        paired = {node for _, node in pairs}
        lost = {
            number
            for node, number in numbers.items()
            if node not in paired and node.args[1] in of_ours
        }
        if not lost:
            return pairs
        apart |= {str(node.args[1]) for node, number in numbers.items() if number in lost}


def _numbers(graph: fx.Graph) -> dict[fx.Node, str]:
    """What asks for sizes in a graph, with the numbers."""
    return {node: str(node.args[1]) for node in graph.nodes if node.target is decide}


def _share_conditions(
    theirs: fx.Graph, ours: fx.Graph, apart: Collection[str]
) -> dict[fx.Node, str]:
    """Give what two graphs ask for in one line of the forward one number.

    A number tells which ways a forward has gone before, which is what the two differ in.

    Args:
        theirs: the one graph; what it asks for gets other numbers.
        ours: the other one.
        apart: the numbers of theirs that are not to be one of ours.

    Returns:
        What asks for sizes in theirs, with the numbers that it had.
    """
    asked = [_numbers(graph) for graph in (theirs, ours)]
    lines: list[list[Any]] = [[node.meta.get(LINE) for node in nodes] for nodes in asked]
    numbers = [list(of_graph.values()) for of_graph in asked]
    shared: dict[str, str] = {}
    match = SequenceMatcher(None, lines[0], lines[1], autojunk=False)
    for block in match.get_matching_blocks():
        for place in range(block.size):
            number, other = numbers[0][block.a + place], numbers[1][block.b + place]
            if other not in shared.values() and number not in apart:
                shared.setdefault(number, other)
    taken = {*numbers[1]}
    for number in numbers[0]:
        if number not in shared:
            shared[number] = number
            while shared[number] in taken:
                shared[number] += "x"
            taken.add(shared[number])

    def of_ours(condition: Condition) -> Condition:
        return replace(condition, sizes=shared.get(condition.sizes, condition.sizes))

    for node in theirs.nodes:
        if ONLY in node.meta:
            node.meta[ONLY] = tuple((of_ours(one), side) for one, side in only_in(node))
        if node.target is decide:
            node.update_arg(1, shared[str(node.args[1])])
        elif node.target is choose:
            node.update_arg(0, cast(Any, of_ours(chosen_by(node))))
    return asked[0]


def _lies_in(node: fx.Node, condition: Condition, depth: int) -> bool:
    """True if a node is of one side of a condition, or chooses between the two."""
    if node.target is choose and len(only_in(node)) == depth:
        return chosen_by(node) == condition
    return len(only_in(node)) > depth and only_in(node)[depth][0] == condition


def _is_same_tensor(one: fx.Node, other: fx.Node) -> bool:
    return one.op == other.op == "get_attr" and one.target == other.target
