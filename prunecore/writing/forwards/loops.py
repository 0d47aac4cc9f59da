"""Loops in a traced forward: runs of operations that repeat for one child after the other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from prunecore.tracing.conditions import choose, only_in
from prunecore.tracing.contexts import kinds
from prunecore.writing.containers import Container, Containers, Place

_LONGEST = 24  # operations in a loop's body


@dataclass(frozen=True)
class Loop:
    """A run of operations that repeats.

    Attributes:
        turns: the operations of each turn, in order.
        containers: what is gone through, side by side, with the first and last place taken.
        carried: the place in the body of what a turn hands to the next, by what the first one has.
        gathered: the lists that each turn adds to: the place in the body of what is added, with
            what the list begins with.
        growing: the lists of the first turn's arguments that are these, by id.
    """

    turns: tuple[tuple[fx.Node, ...], ...]
    containers: tuple[tuple[Container, int, int], ...]
    carried: Mapping[fx.Node, int]
    gathered: Mapping[int, tuple[fx.Node, ...]]
    growing: Mapping[int, int]

    @property
    def lists(self) -> dict[tuple[fx.Node, ...], int]:
        """What the lists hold at the end, with the place in the body of what is added."""
        return {
            (*begin, *(turn[place] for turn in self.turns)): place
            for place, begin in self.gathered.items()
        }

    @property
    def nodes(self) -> list[fx.Node]:
        """The operations of all turns."""
        return [node for turn in self.turns for node in turn]


def find_loops(
    nodes: Sequence[fx.Node], containers: Containers, literals: Callable[[fx.Node], str]
) -> list[Loop]:
    """Find the loops of a forward, without those within others.

    Args:
        nodes: its operations, in order, without those that nothing uses; the last is the output.
        containers: those that it reaches.
        literals: an operation's literals as they are written.
    """
    finder = _Finder(nodes, containers, literals)
    loops: list[Loop] = []
    start = 0
    while start < len(nodes):
        loop = finder.best_at(start)
        if loop is None:
            start += 1
        else:
            loops.append(loop)
            start = finder.number[loop.turns[-1][-1]] + 1
    return loops


@dataclass
class _Matching:
    """What is known of a loop while its turns are compared."""

    start: int
    period: int
    carried: dict[fx.Node, int] = field(default_factory=dict)
    fixed: set[fx.Node] = field(default_factory=set)  # what all turns read
    gathered: dict[int, tuple[fx.Node, ...]] = field(default_factory=dict)
    growing: dict[int, int] = field(default_factory=dict)
    places: dict[Container, Place] = field(default_factory=dict)  # the first turn's
    moves: dict[fx.Node, bool] = field(default_factory=dict)  # whether each turn calls another


class _Finder:
    def __init__(
        self,
        nodes: Sequence[fx.Node],
        containers: Containers,
        literals: Callable[[fx.Node], str],
    ) -> None:
        self.nodes = nodes
        self.number = {node: number for number, node in enumerate(nodes)}
        self.containers = containers
        self.literals = literals

    def best_at(self, start: int) -> Loop | None:
        """The loop that begins with an operation and covers most."""
        best: Loop | None = None
        for period in range(1, min(_LONGEST, (len(self.nodes) - start) // 2) + 1):
            loop = self._loop(start, period)
            if loop and (best is None or len(loop.nodes) > len(best.nodes)):
                best = loop
        return best and self._from_its_child(best)

    def _from_its_child(self, loop: Loop) -> Loop:
        """The same loop with a body that begins with the child, if there are as many turns."""
        start, period = self.number[loop.turns[0][0]], len(loop.turns[0])
        for offset in range(period):
            if loop.gathered or self._places(self.nodes[start + offset]):
                later = self._loop(start + offset, period)
                return later if later and len(later.turns) == len(loop.turns) else loop
        return loop

    def _loop(self, start: int, period: int) -> Loop | None:
        if not any(map(self._places, self.nodes[start : start + period])):
            return None
        found = _Matching(start, period)
        count = 1
        while self._repeats(found, count):
            count += 1
        if count < 2 or not found.places:
            return None
        firsts = range(start, start + count * period, period)
        turns = [tuple(self.nodes[first : first + period]) for first in firsts]
        containers = [
            (container, place.index, place.index + count - 1)
            for container, place in found.places.items()
        ]
        if not all(container.can_be_cut(first, last) for container, first, last in containers):
            return None
        gathered = self._gathered(found, turns)
        if gathered is None or found.fixed & found.carried.keys():
            return None
        loop = Loop(tuple(turns), tuple(containers), found.carried, gathered, found.growing)
        return loop if self._is_closed(loop) else None

    def _places(self, node: fx.Node) -> list[Place]:
        if node.op != "call_module":
            return []
        return self.containers.places_of(str(node.target))

    def _repeats(self, found: _Matching, turn: int) -> bool:
        """True if the operations of another turn are those of the first, one place on."""
        begin = found.start + turn * found.period
        first, later = (self.nodes[at : at + found.period] for at in (found.start, begin))
        return len(later) == found.period and all(
            self._matches(found, one, other, turn) for one, other in zip(first, later, strict=True)
        )

    def _matches(self, found: _Matching, one: fx.Node, other: fx.Node, turn: int) -> bool:
        moves = one.target != other.target
        if any(only_in(node) or node.target is choose for node in (one, other)):
            return False  # a branch is written by itself
        if one.op != other.op or one.op in ("placeholder", "output"):
            return False
        if kinds(one) != kinds(other):
            return False
        if found.moves.setdefault(one, moves) != moves:
            return False
        if moves and not self._is_next(found, one, other, turn):
            return False
        if one.op != "call_module" and self.literals(one) != self.literals(other):
            return False
        return self._same(found, one.args, other.args, turn) and self._same(
            found, one.kwargs, other.kwargs, turn
        )

    def _is_next(self, found: _Matching, one: fx.Node, other: fx.Node, turn: int) -> bool:
        for first, later in itertools.product(self._places(one), self._places(other)):
            if (
                first.container == later.container
                and first.rest == later.rest
                and later.index == first.index + turn
                and found.places.get(first.container, first).index == first.index
            ):
                found.places[first.container] = first
                return True
        return False

    def _same(self, found: _Matching, one: Any, other: Any, turn: int) -> bool:
        """True if an argument of the first turn is in its place in a later one."""
        if isinstance(one, fx.Node):
            return isinstance(other, fx.Node) and self._same_node(found, one, other, turn)
        if isinstance(one, list | tuple):
            if not isinstance(other, list | tuple):
                return False
            if len(other) == len(one) + turn and _are_nodes(other):
                return self._grows(found, one, other, turn)
            return len(one) == len(other) and all(
                self._same(found, a, b, turn) for a, b in zip(one, other, strict=True)
            )
        if isinstance(one, dict):
            return (
                isinstance(other, dict)
                and list(one) == list(other)
                and all(self._same(found, one[key], other[key], turn) for key in one)
            )
        return type(one) is type(other) and bool(one == other)

    def _same_node(self, found: _Matching, one: fx.Node, other: fx.Node, turn: int) -> bool:
        at = self.number.get(other, -1)
        if self.number.get(one, -1) >= found.start:  # the turn's own
            return at == self.number[one] + turn * found.period
        if one is other:
            found.fixed.add(one)
            return True
        if one.op == "get_attr":
            return False
        place = at - found.start - (turn - 1) * found.period
        if not 0 <= place < found.period:
            return False
        known = found.carried.setdefault(one, place)
        return known == place and list(found.carried.values()).count(place) == 1

    def _grows(
        self, found: _Matching, one: Sequence[Any], other: Sequence[fx.Node], turn: int
    ) -> bool:
        """True if a list has in a later turn what the turns before it have added."""
        place = self.number.get(other[-1], -1) - found.start - (turn - 1) * found.period
        if not 0 <= place < found.period:
            return False
        added = [self.nodes[found.start + n * found.period + place] for n in range(turn)]
        begin = tuple(one)
        if tuple(other) != (*begin, *added) or not self._are_before(begin, found):
            return False
        found.fixed.update(begin)
        found.growing[id(one)] = place
        return found.gathered.setdefault(place, begin) == begin

    def _are_before(self, items: Sequence[Any], found: _Matching) -> bool:
        return all(
            isinstance(item, fx.Node) and self.number.get(item, -1) < found.start for item in items
        )

    def _gathered(
        self, found: _Matching, turns: Sequence[tuple[fx.Node, ...]]
    ) -> dict[int, tuple[fx.Node, ...]] | None:
        """The lists that grow, those among them that are used only after the loop."""
        gathered = dict(found.gathered)
        columns = {column[-1]: column for column in zip(*turns, strict=True)}
        for user in self.nodes[found.start + len(turns) * found.period :]:
            for items in (x for given in _given(user) for x in _lists(given)):
                column = columns.get(items[-1], ())
                begin = tuple(items[: len(items) - len(column)])
                if not column or tuple(items) != (*begin, *column):
                    continue
                place = turns[0].index(column[0])
                if not self._are_before(begin, found):
                    return None
                if gathered.setdefault(place, begin) != begin:
                    return None
        return gathered

    def _is_closed(self, loop: Loop) -> bool:
        """True if nothing but the lists and the last turn is used after the loop."""
        early = {node for turn in loop.turns[:-1] for node in turn}
        lists = loop.lists

        def uses(value: Any) -> bool:
            if isinstance(value, fx.Node):
                return value in early
            if isinstance(value, list | tuple):
                return not is_one_of(value, lists) and any(map(uses, value))
            return isinstance(value, dict) and any(map(uses, value.values()))

        for value, place in loop.carried.items():  # the old one is not read beside the new one
            if any(value in node.all_input_nodes for node in loop.turns[0][place + 1 :]):
                return False
        end = self.number[loop.turns[-1][-1]] + 1
        return not any(uses(given) for user in self.nodes[end:] for given in _given(user))


def is_one_of(value: Any, lists: Mapping[tuple[fx.Node, ...], Any]) -> bool:
    """True if an argument is a list or tuple of just these nodes."""
    return _are_nodes(value) and tuple(value) in lists


def _given(node: fx.Node) -> list[Any]:
    return [*node.args, *node.kwargs.values()]


def _are_nodes(value: Any) -> bool:
    is_list = isinstance(value, list | tuple) and not hasattr(value, "_fields")
    return is_list and len(value) > 0 and all(isinstance(item, fx.Node) for item in value)


def _lists(value: Any) -> Iterator[Sequence[fx.Node]]:
    """The lists and tuples of nodes within an argument."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if _are_nodes(value):
        yield value
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _lists(inner)
