"""The ways that a forward goes, with and without its optional inputs, and all of them as one."""

from __future__ import annotations

import inspect
import itertools
import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from torch import Tensor, fx, nn

from prunecore.channels.records import Trace
from prunecore.channels.signal import Signal, leaves_of
from prunecore.functions.table import SIGNS
from prunecore.tracing.arguments import given_to, named_by_place
from prunecore.tracing.conditions import TAKEN, Condition, Taken, decide, guards_of
from prunecore.tracing.ways.merging import Couple, merged
from prunecore.tracing.ways.pairing import go_on_alike

# The ways that a forward goes for inputs of different sizes, by what it does at its branches.
AllSizes: TypeAlias = Mapping[tuple[Taken, ...], Trace]

MOST_OPTIONAL = 3  # inputs that a network is followed without; all sets of them, which are 7


def optional_inputs(model: nn.Module, inputs: Any) -> list[str]:
    """The names of the tensors that a network is given and may do without, by its signature.

    Args:
        model: the network.
        inputs: what it is called with, by place and by name.
    """
    signature = inspect.signature(model.forward)
    given = given_to(signature, *inputs)
    return [
        name
        for name, parameter in signature.parameters.items()
        if parameter.default is None and isinstance(given.get(name), Tensor)
    ]


def without(model: nn.Module, inputs: Any, absent: Collection[str]) -> Any:
    """What a network is called with, `None` in the places of some arguments.

    Args:
        model: the network.
        inputs: what it is called with, by place and by name.
        absent: the names of these arguments.
    """
    args, kwargs = inputs
    left = [None if name in absent else arg for name, arg in named_by_place(model, args)]
    return left, {name: None if name in absent else arg for name, arg in kwargs.items()}


def all_without(names: Sequence[str]) -> list[frozenset[str]]:
    """Every set of some of these optional inputs."""
    sizes = range(1, len(names) + 1)
    return [frozenset(some) for size in sizes for some in itertools.combinations(names, size)]


def of_all_sizes(ways: AllSizes, couple: Couple, place: int = 0) -> Trace:
    """The ways that a forward goes for inputs of different sizes, merged.

    Args:
        ways: the forward as it was followed, the natural way first, by what it has taken at its
            branches on sizes.
        couple: as of `merged`.
        place: the first of these branches at which they may part.
    """
    if place == 0:
        ways = _reduced(ways, place)
    natural, *others = ways
    if not others:
        return ways[natural]
    sides = _sides(ways, place)
    if not all(sides.values()):
        return of_all_sizes(ways, couple, place + 1)
    for holds in (True, False):
        if several := _chained(ways, place, holds, couple):
            return several
    both = {holds: of_all_sizes(of_side, couple, place + 1) for holds, of_side in sides.items()}
    condition = Condition(sizes=natural[place].number)
    return merged(both, condition, natural[place].holds, couple)


def _reduced(ways: AllSizes, place: int) -> AllSizes:
    """The ways without those that do the same as another one on the other side of a branch.

    Args:
        ways: the ways, the natural one first.
        place: the first branch at which they may part.
    """
    if len(ways) == 1:
        return ways
    sides = _sides(ways, place)
    if not all(sides.values()):
        return _reduced(ways, place + 1)
    natural = next(iter(ways))
    first = natural[place].holds
    one, other = (_reduced(sides[holds], place + 1) for holds in (first, not first))
    if len(one) == len(other) == 1:
        ((taken, trace),), ((_, alternative),) = one.items(), other.items()
        guard = _guard(trace, natural[place])
        if go_on_alike(guard, _guard(alternative, replace(natural[place], holds=not first))):
            return {(*taken[:place], *taken[place + 1 :]): _lacking(trace, guard)}
    return {**one, **other}


def _sides(ways: AllSizes, place: int) -> dict[bool, AllSizes]:
    """The ways on which a branch's condition holds, and those on which it does not."""
    return {
        holds: {taken: way for taken, way in ways.items() if taken[place].holds is holds}
        for holds in (True, False)
    }


def _chained(ways: AllSizes, place: int, holds: bool, couple: Couple) -> Trace | None:
    """The ways merged as one branch with several conditions, if they are that.

    Where `a or b` decides, the forward does the same where `a` holds, and where that does not and
    `b` holds; where `a and b` decides, where `a` does not hold, and where `b` alone does not.

    Args:
        ways: the ways, the natural one first.
        place: of the first condition.
        holds: whether one that holds decides.
        couple: as of `merged`.
    """
    natural = next(iter(ways))
    rest, leaves = ways, []
    while len(rest) > 1 and all((sides := _sides(rest, place)).values()):
        if len(sides[holds]) > 1:
            return None
        leaves += [(way, taken[place]) for taken, way in sides[holds].items()]
        rest = sides[not holds]
        place += 1
    if len(rest) > 1 or len(leaves) < 2:
        return None
    (_, first), *_, (trace, last) = leaves
    if not _asks_alone(trace, first, last):
        return None
    guards = [_guard(way, taken) for way, taken in leaves]
    if not all(go_on_alike(guards[-1], guard) for guard in guards[:-1]):
        return None
    (other,) = rest.items()
    sides_of_last = {holds: trace, not holds: other[1]}
    base = not holds if other[0] == natural else holds
    one = merged(sides_of_last, Condition(sizes=last.number), base, couple)
    return _joined(one, [taken for _, taken in leaves[:-1]], "or" if holds else "and")


def _asks_alone(trace: Trace, first: Taken, last: Taken) -> bool:
    """True if a forward computes no tensor between two of its branches on sizes."""
    nodes = list(trace.graph.nodes)
    places = {node.meta[TAKEN].number: at for at, node in enumerate(nodes) if TAKEN in node.meta}
    between = nodes[places[first.number] : places[last.number]]
    values = [trace.values[node] for node in between if node in trace.values]
    return not any(isinstance(leaf, Signal) for value in values for leaf in leaves_of(value))


def _guard(trace: Trace, taken: Taken) -> fx.Node:
    """What asserts the way that is taken at a branch."""
    return next(guard for guard in guards_of(trace.graph) if guard.meta[TAKEN] == taken)


def _lacking(trace: Trace, guard: fx.Node) -> Trace:
    """A copy of a followed forward that does not assert something."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in trace.graph.nodes:
        if node is not guard:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    values = {copies[node]: value for node, value in trace.values.items() if node in copies}
    return Trace(trace.module, graph, values, trace.output)


def _joined(trace: Trace, before: Sequence[Taken], word: str) -> Trace:
    """A forward whose branch asks for what is asserted before it, too.

    Args:
        trace: a merged forward; its graph is changed.
        before: what the branches before it have taken on the way that is merged in their place.
        word: `and` or `or`.
    """
    numbers = {taken.number for taken in before}
    graph = trace.graph
    guards = [guard for guard in guards_of(graph) if guard.meta[TAKEN].number in numbers]
    decision = next(node for node in graph.nodes if node.target is decide)
    conditions = []
    for guard in guards:
        asserted: Any = guard.args[0]
        if word == "or":  # what is asserted is that it does not hold
            opposite = SIGNS[asserted.target].opposite or operator.not_
            given = asserted.args if SIGNS[asserted.target].opposite else (asserted,)
            with graph.inserting_before(guard):
                asserted = graph.call_function(opposite, given)
        conditions.append(asserted)
        graph.erase_node(guard)
    own: Any = decision.args
    decision.args = ((*conditions, *own[0]), own[1], word)
    return replace(trace, values={**trace.values, **dict.fromkeys(conditions, True)})


def as_one(ways: Mapping[frozenset[str], Trace], couple: Couple) -> Trace:
    """All ways that a forward goes, merged.

    Args:
        ways: the forward as it was followed, by the arguments that are `None`.
        couple: as of `merged`.
    """
    (first, *others) = ways
    if not others:
        return ways[first]
    signature = inspect.signature(ways[first].module.forward)
    order = [*signature.parameters, *sorted(frozenset().union(*ways) - signature.parameters.keys())]
    name = next(name for name in order if len({name in absent for absent in ways}) == 2)
    given = {absent: trace for absent, trace in ways.items() if name not in absent}
    rest = {absent: trace for absent, trace in ways.items() if name in absent}
    both = {True: as_one(given, couple), False: as_one(rest, couple)}
    return merged(both, Condition(name), True, couple)
