"""Choices of channels, from few that go to all that may, and what each of them takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunecore.channels.dependencies import ChannelArray, Dependencies
from prunecore.planning.bounds import steps_of
from prunecore.planning.cost import Cost, Counter
from prunecore.planning.goal import Target
from prunecore.planning.request import Limits
from prunecore.planning.residual_blocks import ResidualBlock, closed_residual_blocks

NEAR = 0.5  # percentage points: a level that is met so closely is not looked for further


_GUESSES = 64  # of the numbers of two sets, each of which is tried


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
    """

    def __init__(
        self,
        dependencies: Dependencies,
        order: ChannelArray,
        target: Target,
        limits: Limits,
        blocks: Sequence[ResidualBlock],
    ) -> None:
        self._order, self._target, self._blocks = order, target, blocks
        self._steps = steps_of(dependencies, order, limits.round_to)
        # the least width that is left of a layer
        self._least = math.ceil(limits.min_channels / limits.round_to) * limits.round_to
        self._removable = dependencies.removable
        self._counter = Counter(dependencies)
        self._everything = np.ones(dependencies.count, dtype=bool)
        self.before = self._counter.cost(self._everything)

    @property
    def total(self) -> int:
        """What the network takes of the target; of channels, those that may go."""
        if self._target == "channels":
            return int(self._removable.sum())
        return int(getattr(self.before, self._target))

    def after(self, removed: int, going: tuple[ResidualBlock, ...] | None = None) -> Choice:
        """The choice without the first channels of the order, and without the blocks that go."""
        return self._choice(self._steps.nearest(removed), going)

    def closest(self, level: float) -> Choice:
        """The choice whose removed percentage of the target comes closest to a level."""
        removed = _closest(lambda number: self.gone(self.after(number)), level, len(self._order))
        choice = self.after(removed)
        if choice.blocks:  # what their going overshoots is given back elsewhere
            going = choice.blocks
            removed = _closest(lambda number: self.gone(self.after(number, going)), level, removed)
            choice = self.after(removed, going)
        return self._closer(choice, level)

    def cost(self, choice: Choice) -> Cost:
        """What the network takes by a choice."""
        return self._counter.cost(choice.kept, [block.path for block in choice.blocks])

    def gone(self, choice: Choice) -> float:
        """The percentage of the target that a choice removes."""
        if self._target == "channels":
            left = int((self._removable & choice.kept).sum())
        else:
            left = getattr(self.cost(choice), self._target)
        return float(100 * (1 - left / self.total))

    def _choice(self, counts: ChannelArray, going: tuple[ResidualBlock, ...] | None) -> Choice:
        kept = self._everything.copy()
        kept[self._order[self._steps.ranks < counts[self._steps.sets]]] = False
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
