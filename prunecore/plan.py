"""Scores, a budget and limits make a plan: which channels stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prunecore.counting import Cost, Counter
from prunecore.dependencies import Dependencies
from prunecore.errors import LevelError, PrunecoreError
from prunecore.signal import FIXED

Target = Literal["params", "macs", "channels"]
TARGETS: tuple[Target, ...] = ("params", "macs", "channels")

TOLERANCE = 1.0  # percentage points between the level that is asked and the one achieved


@dataclass(frozen=True)
class Plan:
    """Which channels stay, and what that comes to.

    Attributes:
        kept: whether each channel stays, shape `(dependencies.count,)`.
        target: what the level is a percentage of.
        asked: the level that was asked for, in percent.
        achieved: the level that the plan reaches, in percent.
        before: what the network takes.
        after: what the network takes with the kept channels alone.
    """

    kept: NDArray[np.bool_]
    target: Target
    asked: float
    achieved: float
    before: Cost
    after: Cost


def make_plan(
    dependencies: Dependencies,
    scores: NDArray[np.float64],
    level: float,
    target: Target = "params",
    min_channels: int = 2,
) -> Plan:
    """Remove the channels of the lowest scores over the whole network until the level is reached.

    Args:
        dependencies: the network's channels.
        scores: one a channel, shape `(dependencies.count,)`, low goes first.
        level: percentage of the target to remove.
        target: what to count.
        min_channels: what every layer keeps at least.

    Raises:
        LevelError: the level cannot be reached; names the highest that can, and what holds it.
        PrunecoreError: no channel of the network can be removed.
    """
    order = _removal_order(dependencies, scores, min_channels)
    if not dependencies.removable.any():
        raise PrunecoreError(_nothing_to_prune(dependencies))
    counter = Counter(dependencies)
    everything = np.ones(dependencies.count, dtype=bool)
    before = counter.cost(everything)

    def kept_after(removed: int) -> NDArray[np.bool_]:
        kept = everything.copy()
        kept[order[:removed]] = False
        return kept

    def gone(removed: int) -> float:
        if target == "channels":
            return 100.0 * removed / int(dependencies.removable.sum())
        total = getattr(before, target)
        left = getattr(counter.cost(kept_after(removed)), target)
        return float(100 * (1 - left / total))

    highest = gone(len(order))
    if level > highest + TOLERANCE:
        raise LevelError(_unreachable(dependencies, level, highest, target, min_channels))
    removed = _closest(gone, level, len(order))
    kept = kept_after(removed)
    return Plan(kept, target, level, gone(removed), before, counter.cost(kept))


def _removal_order(
    dependencies: Dependencies, scores: NDArray[np.float64], min_channels: int
) -> NDArray[np.int64]:
    """The channels that may go, lowest score first, without the best few of each layer."""
    removable = dependencies.removable.copy()
    for index in set(dependencies.layers.values()):
        array = dependencies.axes[index]
        channels = array[array != FIXED]
        best_first = channels[np.argsort(-scores[channels], kind="stable")]
        removable[best_first[: max(0, min_channels - (len(array) - len(channels)))]] = False
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
    held += [f"{path} because {reason}" for path, reason in dependencies.left_whole.items()]
    return (
        "The network has no channel that may go: its layers make its outputs"
        + (f", or are left whole ({'; '.join(held[:5])})" if held else "")
        + ".\nSee `prunecore inspect` for every layer."
    )


def _unreachable(
    dependencies: Dependencies, level: float, highest: float, target: Target, min_channels: int
) -> str:
    held = [f"{path} is left whole because {why}" for path, why in dependencies.left_whole.items()]
    protected = [f"{path}, which skip protects" for path in dependencies.protected]
    holds = [f"the minimum of {min_channels} channels a layer", *protected[:5], *held[:5]]
    return (
        f"Level {level:g} cannot be reached: at most {highest:.2f} % of the {target} can go.\n"
        f"It is held there by {'; '.join(holds)}. "
        f"Ask for a level of {int(highest * 100) / 100:g} or less."
    )
