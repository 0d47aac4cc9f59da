"""Branches of a forward on sizes: the ways that it goes for inputs of other sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import fx

from prunecore.errors import UnsupportedError
from prunecore.tracing.conditions import TAKEN, Taken, guards_of
from prunecore.tracing.nodes import is_in_place
from prunecore.tracing.ways.pairing import in_prefix

_MOST = 8  # ways through one forward


def taken_in(graph: fx.Graph) -> tuple[Taken, ...]:
    """Which way a traced forward goes at each of its branches on sizes."""
    return tuple(node.meta[TAKEN] for node in guards_of(graph))


def other_ways(
    natural: fx.Graph, trace: Callable[[Sequence[bool]], fx.Graph]
) -> dict[tuple[Taken, ...], fx.Graph]:
    """The ways that a forward goes for other sizes, as far as it can be traced.

    Each is what the forward does where one branch is gone the other way, with the inputs that it
    was traced for: what it asks of sizes there is what these have.

    Args:
        natural: the trace for the sizes that are given.
        trace: traces it with these ways at its first branches.

    Returns:
        The traces, without the natural one, at most seven.
    """
    found = {taken_in(natural): natural}
    tried: set[tuple[bool, ...]] = set()
    waiting = [natural]
    while waiting:
        graph = waiting.pop()
        ways = [one.holds for one in taken_in(graph)]
        for place, holds in enumerate(ways):
            forced = (*ways[:place], not holds)
            known = {tuple(one.holds for one in taken[: place + 1]) for taken in found}
            if forced in known | tried or len(found) == _MOST:
                continue
            tried.add(forced)
            try:
                other = trace(forced)
            except UnsupportedError:  # as where it raises: what is asserted stays so
                continue
            if _is_beside(graph, other, place):
                found[taken_in(other)] = other
                waiting.append(other)
    del found[taken_in(natural)]
    return found


def _is_beside(graph: fx.Graph, other: fx.Graph, place: int) -> bool:
    """True if two traces are one up to a branch, and the other changes nothing more in place."""
    ours, theirs = guards_of(graph), guards_of(other)
    if len(theirs) <= place or in_prefix(ours[place], theirs[place]) is None:
        return False
    changes = [sum(map(is_in_place, one.nodes)) for one in (graph, other)]
    return changes[1] <= changes[0]
