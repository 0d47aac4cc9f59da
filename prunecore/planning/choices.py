"""Which channels go: their order under limits, in which numbers, and the choice for a level."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from prunecore.channels.dependencies import ChannelArray, Dependencies, groups_of
from prunecore.channels.ids import counted
from prunecore.errors import UsageError, unknown_name
from prunecore.escaping import shown, shown_value
from prunecore.planning.cost import Cost, Counter
from prunecore.planning.goal import Target
from prunecore.planning.request import KEEP, LayerLimits, Limits
from prunecore.planning.residual_blocks import ResidualBlock, closed_residual_blocks

NEAR = 0.5  # percentage points: a level that is met so closely is not looked for further

_GUESSES = 64  # of the numbers of two sets, each of which is tried


def removal_order(
    dependencies: Dependencies, scores: NDArray[np.float64], limits: Limits
) -> ChannelArray:
    """The channels that may go, the first to go first, without the best few of each layer.

    Args:
        dependencies: the network's channels.
        scores: one a channel, shape `(dependencies.count,)`, low goes first.
        limits: what has to stay.

    Raises:
        UsageError: a pattern matches no layer, or two limits contradict one another.
    """
    may_go = np.append(dependencies.removable, False)  # the last is for fixed places
    least = _least_places(dependencies, limits)
    # the narrowest first: what it holds counts for those that have its channels among others
    for index in sorted(least, key=lambda index: len(dependencies.axes[index])):
        array = dependencies.axes[index]
        channels, counts = counted(array)
        free = may_go[channels]
        channels, counts = channels[free], counts[free]
        lacking = least[index] - (len(array) - counts.sum())
        if lacking > 0:
            losses = -scores[channels]
            if lacking < len(losses):  # to find the few best takes less than to sort all
                are_best = ~(losses > np.partition(losses, lacking - 1)[lacking - 1])
                channels, counts, losses = channels[are_best], counts[are_best], losses[are_best]
            best_first = np.argsort(losses, kind="stable")
            before = np.cumsum(counts[best_first]) - counts[best_first]
            may_go[channels[best_first[before < lacking]]] = False
    candidates = np.flatnonzero(may_go)
    keys = scores if limits.scope == "global" else _shares(dependencies, scores)
    return candidates[np.argsort(keys[candidates], kind="stable")]


def _shares(dependencies: Dependencies, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of its group that goes before each channel, shape `(dependencies.count,)`."""
    groups = groups_of(dependencies)
    channels = np.flatnonzero(dependencies.removable)
    channels = channels[np.lexsort((scores[channels], groups[channels]))]
    sizes = np.bincount(groups[channels], minlength=1)
    starts = np.cumsum(sizes) - sizes
    of = groups[channels]
    shares = np.zeros(dependencies.count)
    shares[channels] = (np.arange(len(channels)) - starts[of] + 0.5) / sizes[of]
    return shares


def _least_places(dependencies: Dependencies, limits: Limits) -> dict[int, int]:
    """How many places stay of an array of channels, by index into axes."""
    least = dict.fromkeys(dependencies.parts, 1)
    for path, places in least_widths(dependencies, limits).items():
        index = dependencies.layers[path]
        least[index] = max(least.get(index, 0), places)
    return least


def least_widths(dependencies: Dependencies, limits: Limits) -> dict[str, int]:
    """The width that limits leave of each layer at least, by its path.

    Args:
        dependencies: the network's channels.
        limits: what has to stay.

    Raises:
        UsageError: a pattern matches no layer, or two limits contradict one another.
    """
    own = _own_limits(dependencies, limits)
    least = {}
    for path, index in dependencies.layers.items():
        given = own.get(path, {})
        highest = given.get("max_level", limits.max_level)
        width = len(dependencies.axes[index])
        share = 0 if highest is None else math.ceil(width * (100 - highest) / 100 - 1e-9)
        least[path] = max(int(given.get("min_channels", limits.min_channels)), share)
    return least


def _own_limits(dependencies: Dependencies, limits: Limits) -> dict[str, dict[str, float]]:
    """The limits that patterns give layers, by path; what is kept has a `max_level` of 0."""
    own: dict[str, dict[str, float]] = {}
    given_by: dict[tuple[str, str], str] = {}
    for pattern, what in limits.layers.items():
        paths = [path for path in dependencies.layers if fnmatchcase(path, pattern)]
        if not paths:
            raise unknown_name("layer", pattern, dependencies.layers)
        for path in paths:
            for name, value in ({"max_level": 0} if isinstance(what, str) else what).items():
                first = given_by.setdefault((path, name), pattern)
                known = own.setdefault(path, {}).setdefault(name, value)
                if known != value:
                    raise _contradiction(path, limits.layers, (first, pattern))
            width = len(dependencies.axes[dependencies.layers[path]])
            if own[path].get("min_channels", 0) > width:
                raise UsageError(
                    f"min_channels of {shown_value(pattern)} is {own[path]['min_channels']:g}, and "
                    f"{shown(path)} has {width} channels.\nGive at most {width}, or {KEEP!r}."
                )
    return own


def _contradiction(
    path: str, layers: Mapping[str, LayerLimits], patterns: Sequence[str]
) -> UsageError:
    said = " and ".join(
        f"{shown_value(layers[pattern])} by {shown_value(pattern)}" for pattern in patterns
    )
    return UsageError(
        f"The limits of {shown(path) or 'the network'} contradict one another: "
        f"it is given {said}.\nGive each layer one value."
    )


@dataclass(frozen=True)
class Steps:
    """The numbers of channels that may go of each set of them, so that widths are as asked.

    Attributes:
        sets: the set of each channel of the order, shape `(order,)`.
        ranks: how many channels of its set go before each one, shape `(order,)`.
        first: the least number that goes of each set, shape `(sets,)`.
        step: by how many it grows.
        most: the largest number.
    """

    sets: ChannelArray
    ranks: ChannelArray
    first: ChannelArray
    step: ChannelArray
    most: ChannelArray

    def nearest(self, number: int) -> ChannelArray:
        """How many go of each set, when the first channels of the order are to go.

        Args:
            number: of channels of the order.

        Returns:
            Shape `(sets,)`.
        """
        counts = np.bincount(self.sets[:number], minlength=len(self.first))
        steps = (2 * (counts - self.first) + self.step) // (2 * self.step)
        return np.clip(self.first + self.step * steps, self.first, self.most)

    def going(self, counts: ChannelArray) -> slice | NDArray[np.bool_]:
        """The places of the order that go, when so many go of each set, shape `(sets,)`."""
        if len(counts) == 1:  # they are the first, and need not be looked for
            return slice(counts[0])
        return self.ranks < counts[self.sets]


def steps_of(dependencies: Dependencies, order: ChannelArray, round_to: int) -> Steps:
    """In which numbers channels go, so that every width that is cut is a multiple.

    Channels that the same layers make, at as many places of each, are a set: in whatever order they
    go, the same numbers of them leave the same widths. A set that cannot be cut to a multiple stays
    whole.

    Args:
        dependencies: the network's channels.
        order: those that may go, the first to go first.
        round_to: what widths are to be multiples of.
    """
    if round_to == 1:
        zeros = np.zeros(len(order), dtype=np.int64)
        whole = np.array([len(order)])
        return Steps(zeros, np.arange(len(order)), 0 * whole, 0 * whole + 1, whole)
    layers = list(dict.fromkeys(dependencies.layers.values()))
    removable = np.flatnonzero(dependencies.removable)
    places = [
        counted(dependencies.axes[index]) for index in layers
    ]  # of each layer, its channels and at how many places each lies
    # equal sums of random numbers stand for equal places
    sums = np.zeros(dependencies.count + 1, dtype=np.uint64)  # the last is for fixed places
    draws = np.random.default_rng(0).integers(2**64, size=len(layers), dtype=np.uint64)
    for (channels, counts), drawn in zip(places, draws, strict=True):
        sums[channels] += counts.astype(np.uint64) * drawn
    _, representatives, set_of = np.unique(sums[removable], return_index=True, return_inverse=True)
    sets = np.full(dependencies.count + 1, -1)
    sets[removable] = set_of
    sizes = np.bincount(set_of, minlength=len(representatives))
    kinds = np.zeros((len(layers), len(sizes)), dtype=np.int64)
    for row, (channels, counts) in zip(kinds, places, strict=True):
        of = sets[channels]
        row[of[of >= 0]] = counts[of >= 0]
    widths = np.array([len(dependencies.axes[index]) for index in layers])
    rest = widths - kinds @ sizes  # places that stay in any case
    taken = np.zeros(len(layers), dtype=bool)  # whether the rest of a layer is dealt with
    count = np.bincount(sets[order], minlength=len(sizes))
    first, step, most = np.zeros_like(sizes), np.ones_like(sizes), np.zeros_like(sizes)
    for number, size in enumerate(sizes.tolist()):
        of = np.flatnonzero(kinds[:, number])
        stays = np.where(taken[of], 0, rest[of])[:, None]
        left = stays + kinds[of, number][:, None] * (size - np.arange(count[number] + 1))
        fitting = np.flatnonzero((left % round_to == 0).all(axis=0))
        taken[of] = True
        if len(fitting):
            first[number], most[number] = fitting[[0, -1]]
            step[number] = fitting[1] - fitting[0] if len(fitting) > 1 else 1
    ranks = np.zeros(len(order), dtype=np.int64)
    by_set = np.argsort(sets[order], kind="stable")
    ranks[by_set] = np.arange(len(order)) - (np.cumsum(count) - count)[sets[order][by_set]]
    return Steps(sets[order], ranks, first, step, most)


@dataclass(frozen=True)
class Choice:
    """Which channels stay.

    Attributes:
        counts: how many go of each set of channels.
        kept: whether each channel stays, shape `(channels,)`.
        blocks: the residual blocks that go as a whole.
    """

    counts: ChannelArray
    kept: NDArray[np.bool_]
    blocks: tuple[ResidualBlock, ...]


class Choices:
    """What stays for each number of removed channels, and how much of the target that takes.

    Args:
        dependencies: the network's channels.
        order: those that may go, the first to go first.
        target: what is counted.
        limits: what has to stay.
        blocks: those that go as a whole when their branch has come down to the minimum.
        latency: in milliseconds, of what stays and without the blocks at some paths; where that is
            the target.
    """

    def __init__(
        self,
        dependencies: Dependencies,
        order: ChannelArray,
        target: Target,
        limits: Limits,
        blocks: Sequence[ResidualBlock],
        latency: Callable[[NDArray[np.bool_], Sequence[str]], float] | None = None,
    ) -> None:
        self._latency = latency
        self._order, self._target, self._blocks = order, target, blocks
        self._steps = steps_of(dependencies, order, limits.round_to)
        # the least width that is left of a layer
        self._least = math.ceil(limits.min_channels / limits.round_to) * limits.round_to
        self._removable = dependencies.removable
        self._counter = Counter(dependencies)
        self._everything = np.ones(dependencies.count, dtype=bool)
        self.before = self._counter.cost(self._everything)

    @functools.cached_property
    def total(self) -> float:
        """What the network takes of the target; of channels, those that may go."""
        if self._target == "channels":
            return int(self._removable.sum())
        if self._latency is not None:
            return self._latency(self._everything, ())
        return int(getattr(self.before, self._target))

    @property
    def most(self) -> int:
        """The largest number of channels that may go."""
        return len(self._order)

    def removed(self, level: float) -> int:
        """How many channels to remove so that what is gone comes closest to a level; at least 1."""
        return _closest(lambda number: self.gone(self.after(number)), level, self.most)

    def after(self, removed: int, going: tuple[ResidualBlock, ...] | None = None) -> Choice:
        """The choice without the first channels of the order, and without the blocks that go."""
        return self._choice(self._steps.nearest(removed), going)

    def closest(self, level: float) -> Choice:
        """The choice whose removed percentage of the target comes closest to a level."""
        choice = self.after(removed := self.removed(level))
        if self._blocks and abs(self.gone(choice) - level) > NEAR:
            ends = range(max(removed - 1, 1), min(removed + 1, len(self._order)) + 1)
            goings = [self.after(number).blocks for number in ends]
            choices = [self._closest_without(going, level) for going in goings]
            choice = min(choices, key=lambda one: abs(self.gone(one) - level))
        return self._closer(choice, level)

    def _closest_without(self, going: tuple[ResidualBlock, ...], level: float) -> Choice:
        """The closest choice without just these blocks, which leave more or less to the others."""
        removed = _closest(
            lambda number: self.gone(self.after(number, going)), level, len(self._order)
        )
        return self.after(removed, going)

    def cost(self, choice: Choice) -> Cost:
        """What the network takes by a choice."""
        return self._counter.cost(choice.kept, [block.path for block in choice.blocks])

    def gone(self, choice: Choice) -> float:
        """The percentage of the target that a choice removes."""
        left: float
        if self._target == "channels":
            left = int((self._removable & choice.kept).sum())
        elif self._latency is not None:
            left = self._latency(choice.kept, [block.path for block in choice.blocks])
        else:
            left = getattr(self.cost(choice), self._target)
        return float(100 * (1 - left / self.total))

    def _choice(self, counts: ChannelArray, going: tuple[ResidualBlock, ...] | None) -> Choice:
        kept = self._everything.copy()
        kept[self._order[self._steps.going(counts)]] = False
        blocks = going or ()
        if going is None and self._blocks:
            blocks = closed_residual_blocks(self._blocks, kept, self._least)
        for block in blocks:
            kept[block.own] = False
        return Choice(counts, kept, blocks)

    def _closer(self, choice: Choice, level: float) -> Choice:
        """A choice that comes closer to a level, where widths go in large steps.

        Of one set of channels, or of two, a few more or fewer go, as long as that helps.
        """
        gone = self.gone(choice)
        while abs(gone - level) > NEAR and len(choice.counts) > 1:
            found = min(
                (
                    (abs(self.gone(other) - level), number, other)
                    for number, other in enumerate(self._nearby(choice, gone, level))
                ),
                default=None,
            )
            if found is None or found[0] >= abs(gone - level):
                break
            choice = found[2]
            gone = self.gone(choice)
        return choice

    def _nearby(self, choice: Choice, gone: float, level: float) -> Iterator[Choice]:
        """The choices that are a step of one set away, and those of more that may come closer.

        The latter are two steps of one set, and one or two of each of two sets. How far they come
        is guessed from the single steps; the best guesses are given.
        """
        steps = np.diag(self._steps.step)
        moves = np.array(
            [move for move in (*steps, *-steps) if self._is_allowed(choice.counts + move)]
        )
        single = [self._choice(choice.counts + move, choice.blocks) for move in moves]
        yield from single
        if not single:
            return
        gains = np.array([self.gone(other) - gone for other in single])
        moves = np.concatenate([0 * moves[:1], moves, 2 * moves])
        gains = np.concatenate([[0], gains, 2 * gains])
        misses = np.abs(gains[:, None] + gains[None, :] - (level - gone))
        closest = np.argsort(misses, axis=None, kind="stable")[:_GUESSES]
        for first, second in zip(*np.unravel_index(closest, misses.shape), strict=True):
            counts = choice.counts + moves[first] + moves[second]
            if first < second and self._is_allowed(counts):
                yield self._choice(counts, choice.blocks)

    def _is_allowed(self, counts: ChannelArray) -> bool:
        return bool(((counts >= self._steps.first) & (counts <= self._steps.most)).all())


def _closest(gone: Callable[[int], float], level: float, most: int) -> int:
    """How many channels to remove so that what is gone comes closest to the level; at least 1."""
    low, high = 0, most  # gone(low) < level <= gone(high), unless level is beyond what can go
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if gone(middle) < level else (low, middle)
    nearer_low = level - gone(low) < gone(high) - level
    return low if low > 0 and nearer_low else high
