"""Branches of a forward on sizes: the ways that it goes for inputs of other sizes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import fx, nn

from prunecore.channels.signal import Signal
from prunecore.errors import UnsupportedError
from prunecore.tracing.conditions import TAKEN, Taken, guards_of
from prunecore.tracing.guards import Decider
from prunecore.tracing.source_lines import LINE
from prunecore.tracing.ways.pairing import in_prefix

_MOST = 64  # ways through one forward

_AT_A_LINE = 4  # branches of a way that the given sizes do not come to; a loop would go on for ever


def taken_in(graph: fx.Graph) -> tuple[Taken, ...]:
    """Which way a traced forward goes at each of its branches on sizes."""
    return tuple(node.meta[TAKEN] for node in guards_of(graph))


def other_ways(
    natural: fx.Graph,
    supplied: Mapping[str, Any],
    trace: Callable[[Sequence[bool], Mapping[str, Any]], fx.Graph],
    sized: Callable[[fx.Graph, Mapping[str, Any], Sequence[bool]], Mapping[str, Any] | None],
) -> dict[tuple[Taken, ...], fx.Graph]:
    """The ways that a forward goes for other sizes, as far as it can be traced.

    Each is what the forward does where one branch is gone the other way, with the inputs that it
    was traced for: what it asks of sizes there is what these have. Where it cannot be run on these,
    it is traced for sizes with which it goes that way by itself.

    Args:
        natural: the trace for the sizes that are given.
        supplied: the arguments of the forward that are given, by parameter name.
        trace: traces it for what is given, with these ways at its first branches.
        sized: finds sizes of what is given with which so many first assertions of a trace hold or
            do not hold, as `sized_for` does.

    Returns:
        The traces, without the natural one.
    """
    found = {taken_in(natural): natural}
    tried: set[tuple[bool, ...]] = set()
    waiting = [(natural, supplied)]
    most = len(taken_in(natural))
    while waiting:
        graph, given = waiting.pop()
        ways = [one.holds for one in taken_in(graph)]
        lines = [guard.meta.get(LINE) for guard in guards_of(graph)]
        for place, holds in enumerate(ways):
            forced = (*ways[:place], not holds)
            known = {tuple(one.holds for one in taken[: place + 1]) for taken in found}
            goes_round = place >= most and lines[:place].count(lines[place]) >= _AT_A_LINE
            if goes_round or forced in known | tried or len(found) == _MOST:
                continue
            tried.add(forced)
            other, here = _traced(trace, forced, given), given
            if other is None and (fitting := sized(graph, given, [True] * place + [False])):
                other, here = _traced(trace, forced, fitting), fitting
            if other and _is_beside(graph, other, place):
                found[taken_in(other)] = other
                waiting.append((other, here))
    del found[taken_in(natural)]
    return found


def _traced(
    trace: Callable[[Sequence[bool], Mapping[str, Any]], fx.Graph],
    forced: Sequence[bool],
    supplied: Mapping[str, Any],
) -> fx.Graph | None:
    """The trace; `None` where there is none, as where it raises: what is asserted stays so."""
    try:
        return trace(forced, supplied)
    except UnsupportedError:
        return None


def _is_beside(graph: fx.Graph, other: fx.Graph, place: int) -> bool:
    """True if two traces are one up to a branch."""
    ours, theirs = guards_of(graph), guards_of(other)
    return len(theirs) > place and in_prefix(ours[place], theirs[place]) is not None


def sized_for(
    module: nn.Module,
    in_training: bool,
    graph: fx.Graph,
    supplied: Mapping[str, Any],
    holding: Sequence[bool],
) -> Mapping[str, Any] | None:
    """What a forward may be given to go some way: the same, of sizes that are found by trying.

    One axis after the other takes the size with which most of what the way asks for is so.

    Args:
        module: whose forward it is.
        in_training: whether it is that of training.
        graph: its trace.
        supplied: the arguments of the forward that are given, by parameter name.
        holding: whether the first assertions about the way of the trace hold, each.

    Returns:
        The arguments; `None` where no such sizes are found.
    """
    asserted: list[Any] = [guard.args[0] for guard in guards_of(graph)]

    def fitting(tried: Mapping[str, Any]) -> int:
        decider = Decider(module, tried, in_training)
        wanted = zip(asserted, holding, strict=False)
        return sum(1 for _ in itertools.takewhile(lambda one: _is_so(decider, *one), wanted))

    best, most = supplied, fitting(supplied)
    for name, given in supplied.items():
        for axis in _free_axes(given):
            for size in _sizes_near(given.shape[axis]):
                tried = {**best, name: _resized(best[name], axis, size)}
                if (fits := fitting(tried)) > most:
                    best, most = tried, fits
                if most == len(holding):
                    return best
    return None


def _is_so(decider: Decider, asserted: fx.Node, holds: bool) -> bool:
    try:
        return bool(decider.value(asserted)) is holds
    except Exception:  # whatever a forward raises that is given other sizes
        return False


def _free_axes(given: Any) -> Iterator[int]:
    """The axes of an argument that may be of another size: neither of the batch nor of channels."""
    if isinstance(given, Signal):
        images = 2 if given.ndim > 3 else 1
        yield from (axis for axis in range(images, given.ndim) if axis not in given.channel_axes)


def _sizes_near(size: int) -> Iterator[int]:
    near = (size - 1, size + 1, size - 2, size + 2, size - 3, size + 3, 2 * size, size // 2)
    yield from (one for one in near if one > 0)


def _resized(signal: Signal, axis: int, size: int) -> Signal:
    shape = [*signal.shape]
    shape[axis] = size
    return replace(signal, meta=signal.meta.new_empty(shape))
