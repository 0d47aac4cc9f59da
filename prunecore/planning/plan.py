"""The plan of a smaller network: scores, a level and limits decide which channels stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunecore.channels.dependencies import Dependencies
from prunecore.channels.ids import FIXED
from prunecore.errors import LevelError, PrunecoreError
from prunecore.planning.cost import Cost, Counter
from prunecore.planning.request import Limits, Target
from prunecore.planning.residual_blocks import ResidualBlock, closed_residual_blocks

TOLERANCE = 1.0  # percentage points between the level that is asked and the one achieved


@dataclass(frozen=True, repr=False)
class Plan:
    """Which channels stay, and what that comes to.

    Attributes:
        kept: whether each channel stays, shape `(dependencies.count,)`.
        target: what the level is a percentage of.
        asked: the level that was asked for, in percent.
        achieved: the level that the plan reaches, in percent.
        before: what the network takes.
        after: what the network takes with the kept channels alone.
        removed_blocks: the paths of the residual blocks that go as a whole.
    """

    kept: NDArray[np.bool_]
    target: Target
    asked: float
    achieved: float
    before: Cost
    after: Cost
    removed_blocks: tuple[str, ...] = ()

    def __repr__(self) -> str:
        before, after = self.before, self.after
        return (
            f"Plan({self.achieved:.2f} % of the {self.target} gone, asked {self.asked:g}: "
            f"{before.params:,} -> {after.params:,} parameters, "
            f"{before.macs:,} -> {after.macs:,} MACs)"
        )


def make_plan(
    dependencies: Dependencies,
    scores: NDArray[np.float64],
    level: float,
    target: Target = "params",
    min_channels: int = Limits.min_channels,
    blocks: Sequence[ResidualBlock] = (),
) -> Plan:
    """Remove the channels of the lowest scores over the whole network until the level is reached.

    Args:
        dependencies: the network's channels.
        scores: one a channel, shape `(dependencies.count,)`, low goes first.
        level: percentage of the target to remove.
        target: what to count.
        min_channels: what every layer keeps at least.
        blocks: those that go as a whole when their branch has come down to the minimum.

    Raises:
        LevelError: the level cannot be reached; names the highest that can, and what holds it.
        PrunecoreError: no channel of the network can be removed.
    """
    order = _removal_order(dependencies, scores, min_channels)
    if not dependencies.removable.any():
        raise PrunecoreError(_nothing_to_prune(dependencies))
    choices = _Choices(dependencies, order, target, min_channels, blocks)
    most = choices.after(len(order))
    highest = choices.gone(most)
    if level > highest + TOLERANCE:
        raise LevelError(_unreachable(dependencies, level, highest, target, min_channels))
    removed = _closest(lambda number: choices.gone(choices.after(number)), level, len(order))
    choice = choices.after(removed)
    if choice.blocks:  # what their going overshoots is given back elsewhere
        going = choice.blocks
        removed = _closest(
            lambda number: choices.gone(choices.after(number, going)), level, removed
        )
        choice = choices.after(removed, going)
    paths = tuple(block.path for block in choice.blocks)
    return Plan(
        kept=choice.kept,
        target=target,
        asked=level,
        achieved=choices.gone(choice),
        before=choices.before,
        after=choices.cost(choice),
        removed_blocks=paths,
    )


@dataclass(frozen=True)
class _Choice:
    kept: NDArray[np.bool_]
    blocks: tuple[ResidualBlock, ...]  # those that go as a whole


class _Choices:
    """What stays for each number of removed channels, and how much of the target that takes."""

    def __init__(
        self,
        dependencies: Dependencies,
        order: NDArray[np.int64],
        target: Target,
        min_channels: int,
        blocks: Sequence[ResidualBlock],
    ) -> None:
        self._order, self._target = order, target
        self._min_channels, self._blocks = min_channels, blocks
        self._removable = dependencies.removable
        self._counter = Counter(dependencies)
        self._everything = np.ones(dependencies.count, dtype=bool)
        self.before = self._counter.cost(self._everything)

    def after(self, removed: int, going: tuple[ResidualBlock, ...] | None = None) -> _Choice:
        """The choice without the first channels of the order, and without the blocks that go."""
        kept = self._everything.copy()
        kept[self._order[:removed]] = False
        blocks = going or ()
        if going is None and self._blocks:
            blocks = closed_residual_blocks(self._blocks, kept, self._min_channels)
        for block in blocks:
            kept[block.own] = False
        return _Choice(kept, blocks)

    def cost(self, choice: _Choice) -> Cost:
        return self._counter.cost(choice.kept, [block.path for block in choice.blocks])

    def gone(self, choice: _Choice) -> float:
        """The percentage of the target that a choice removes."""
        if self._target == "channels":
            removed = int((self._removable & ~choice.kept).sum())
            return 100.0 * removed / int(self._removable.sum())
        left, total = (getattr(cost, self._target) for cost in (self.cost(choice), self.before))
        return float(100 * (1 - left / total))


def _removal_order(
    dependencies: Dependencies, scores: NDArray[np.float64], min_channels: int
) -> NDArray[np.int64]:
    """The channels that may go, lowest score first, without the best few of each layer."""
    removable = dependencies.removable.copy()
    least = dict.fromkeys(dependencies.parts, 1)
    least |= dict.fromkeys(dependencies.layers.values(), min_channels)
    for index, places in least.items():
        array = dependencies.axes[index]
        channels = array[array != FIXED]
        best_first = channels[np.argsort(-scores[channels], kind="stable")]
        removable[best_first[: max(0, places - (len(array) - len(channels)))]] = False
    candidates = np.flatnonzero(removable)
    return candidates[np.argsort(scores[candidates], kind="stable")]


def _closest(gone: Callable[[int], float], level: float, most: int) -> int:
    """How many channels to remove so that what is gone comes closest to the level; at least 1."""
    low, high = 0, most  # gone(low) < level <= gone(high), unless level is beyond what can go
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if gone(middle) < level else (low, middle)
    nearer_low = level - gone(low) < gone(high) - level
    return low if low > 0 and nearer_low else high


def _nothing_to_prune(dependencies: Dependencies) -> str:
    if not dependencies.layers:
        return (
            "The network has no prunable layer: nothing in it makes channels.\n"
            "Give a network with convolutions or linear layers before its last one."
        )
    held = [f"{path} because skip protects it" for path in dependencies.protected]
    held += [
        f"{path or 'the network'} because {reason}"
        for path, reason in dependencies.left_whole.items()
    ]
    return (
        "The network has no channel that may go: its layers make its outputs"
        + (f", or are left whole ({'; '.join(held[:5])})" if held else "")
        + ".\nSee `prunecore inspect` for every layer."
    )


def _unreachable(
    dependencies: Dependencies, level: float, highest: float, target: Target, min_channels: int
) -> str:
    held = [
        f"{path or 'the network'} is left whole because {why}"
        for path, why in dependencies.left_whole.items()
    ]
    protected = [f"{path}, which skip protects" for path in dependencies.protected]
    holds = [f"the minimum of {min_channels} channels a layer", *protected[:5], *held[:5]]
    reachable = int(highest * 100) / 100
    return (
        f"Level {level:g} cannot be reached: at most {highest:.2f} % of the {target} can go.\n"
        f"It is held there by {'; '.join(holds)}. "
        + (
            f"Ask for a level of {reachable:g} or less."
            if reachable
            else "No level can be reached."
        )
    )
