"""The plan of a smaller network: scores, a level and limits decide which channels stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from prunecore.channels.dependencies import ChannelArray, Dependencies
from prunecore.errors import LevelError, PrunecoreError
from prunecore.escaping import shown_value
from prunecore.planning.choices import Choices, removal_order
from prunecore.planning.cost import Cost, Counter
from prunecore.planning.goal import Goal, Target
from prunecore.planning.latency import Measure, Measured, closest_measured
from prunecore.planning.lookup import Lookup
from prunecore.planning.request import Limits
from prunecore.planning.residual_blocks import ResidualBlock

TOLERANCE = 1.0  # percentage points between the level that is asked and the one achieved

_GOAL_EXCESS = 1.05  # times a goal is left at most: a point of the whole may be several goals


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
        limits: what had to stay.
        goal: what was to be left, where no level was asked for.
        latency: of the network before and after, where that is the target.
    """

    kept: NDArray[np.bool_]
    target: Target
    asked: float
    achieved: float
    before: Cost
    after: Cost
    removed_blocks: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    goal: Goal | None = None
    latency: Measured | None = None

    def __repr__(self) -> str:
        before, after = self.before, self.after
        asked = self.goal.text if self.goal else f"{self.asked:g}"
        times = f"{self.latency}, " if self.latency else ""
        return (
            f"Plan({self.achieved:.2f} % of the {self.target} gone, asked {asked}: {times}"
            f"{before.params:,} -> {after.params:,} parameters, "
            f"{before.macs:,} -> {after.macs:,} MACs)"
        )


def make_plan(
    dependencies: Dependencies,
    scores: NDArray[np.float64],
    level: float | Goal,
    target: Target = "params",
    limits: Limits | None = None,
    blocks: Sequence[ResidualBlock] = (),
    measure: Measure | None = None,
    lookup: Lookup | None = None,
) -> Plan:
    """Remove the channels of the lowest scores until the level is reached.

    Args:
        dependencies: the network's channels.
        scores: one a channel, shape `(dependencies.count,)`, low goes first.
        level: percentage of the target to remove, or what is to be left.
        target: what to count; a goal has its own.
        limits: what has to stay; the defaults where not given.
        blocks: those that go as a whole when their branch has come down to the minimum.
        measure: writes and times networks, where the target is `latency`.
        lookup: in its place, looks latencies up.

    Raises:
        LevelError: the level cannot be reached; names the highest that can, and what holds it.
        UsageError: limits fit no layer, or contradict one another.
        PrunecoreError: no channel of the network can be removed.
    """
    limits = limits or Limits()
    if not dependencies.removable.any():
        raise PrunecoreError(nothing_to_prune(dependencies))
    goal = level if isinstance(level, Goal) else None
    target = goal.target if goal else target
    order = removal_order(dependencies, scores, limits)
    if measure is not None:
        return _measured_plan(dependencies, order, level, limits, blocks, measure)
    choices = Choices(dependencies, order, target, limits, blocks, lookup)
    asked = _level_of(level, choices.total) if isinstance(level, Goal) else level
    highest = choices.gone(choices.after(len(order)))
    left = choices.total * (1 - highest / 100)
    is_far = goal is not None and left > goal.number * _GOAL_EXCESS
    if asked > highest + TOLERANCE or is_far or not len(order):
        what = _unreachable(
            dependencies, level, highest, choices.total, target, limits, by_table=lookup is not None
        )
        raise LevelError(what)
    choice = choices.closest(asked)
    return Plan(
        kept=choice.kept,
        target=target,
        asked=asked,
        achieved=choices.gone(choice),
        before=choices.before,
        after=choices.cost(choice),
        removed_blocks=tuple(block.path for block in choice.blocks),
        limits=limits,
        goal=goal,
        latency=lookup.told(choice) if lookup else None,
    )


def _measured_plan(
    dependencies: Dependencies,
    order: ChannelArray,
    level: float | Goal,
    limits: Limits,
    blocks: Sequence[ResidualBlock],
    measure: Measure,
) -> Plan:
    """The plan whose written network is as fast as asked."""
    choices = Choices(dependencies, order, "macs", limits, blocks)
    if not len(order):
        what = _unreachable(dependencies, level, 0.0, choices.total, "latency", limits)
        raise LevelError(what)
    choice, found, asked = closest_measured(choices, level, measure)
    return Plan(
        kept=choice.kept,
        target="latency",
        asked=round(asked, 4),
        achieved=100 * (1 - found.ratio),
        before=choices.before,
        after=choices.cost(choice),
        removed_blocks=tuple(block.path for block in choice.blocks),
        limits=limits,
        goal=level if isinstance(level, Goal) else None,
        latency=found,
    )


def plan_of(
    dependencies: Dependencies,
    kept: NDArray[np.bool_],
    removed_blocks: Sequence[str],
    asked: float,
    target: Target,
    limits: Limits,
) -> Plan:
    """The plan of a choice that is made already.

    Args:
        dependencies: the network's channels.
        kept: whether each channel stays, shape `(dependencies.count,)`.
        removed_blocks: the paths of the residual blocks that go as a whole.
        asked: the level that was asked for, in percent.
        target: what it is a percentage of.
        limits: what had to stay.
    """
    counter = Counter(dependencies)
    before = counter.cost(np.ones(dependencies.count, dtype=bool))
    after = counter.cost(kept, removed_blocks)
    if target == "channels":
        left = kept[dependencies.removable].mean()
    else:
        left = getattr(after, target) / getattr(before, target)
    achieved = float(100 * (1 - left))
    return Plan(kept, target, asked, achieved, before, after, tuple(removed_blocks), limits)


def _level_of(goal: Goal, total: float) -> float:
    """The percentage that has to go so that a goal is left."""
    if goal.number >= total:
        raise LevelError(
            f"Nothing has to go for the goal {goal.text}: the network has {_amount(total, goal)}.\n"
            "Give a smaller goal."
        )
    return round(100 * (1 - goal.number / total), 4)


def _amount(number: float, goal: Goal) -> str:
    """So much of a goal's target, in words."""
    if goal.target == "latency":
        return f"{number:.3g} ms"
    what = "channels that may go" if goal.target == "channels" else goal.target
    return f"{round(number):,} {what}"


def nothing_to_prune(dependencies: Dependencies) -> str:
    """Why no channel of a network may go, and what to do."""
    barriers = {path or "the network": why for path, why in dependencies.forwards.barriers.items()}
    advice = [f"For {path} to be followed: {why.remedy}" for path, why in barriers.items()]
    if not dependencies.layers and barriers:
        held = [f"{path} because {why.reason}" for path, why in barriers.items()]
        return (
            "The network has no prunable layer beside what is left as it stands "
            f"({'; '.join(held[:5])}).\n{advice[0]}"
        )
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
        + f".\n{[*advice, 'See `prunecore inspect` for every layer.'][0]}"
    )


def _unreachable(
    dependencies: Dependencies,
    level: float | Goal,
    highest: float,
    total: float,
    target: Target,
    limits: Limits,
    by_table: bool = False,
) -> str:
    held = [
        f"{path or 'the network'} is left whole because {why}"
        for path, why in dependencies.left_whole.items()
    ]
    protected = [f"{path}, which skip protects" for path in dependencies.protected]
    holds = [*_limits_in_words(limits), *protected[:5], *held[:5]]
    if by_table and limits.round_to == 1:
        holds.append("the table's odd widths (--round-to 8, for it and here, may be faster)")
    reachable = int(highest * 100) / 100
    if isinstance(level, Goal):
        what, ask = (
            f"The goal {level.text}",
            _least(total * (1 - highest / 100), target),
        )
    else:
        what, ask = f"Level {level:g}", f"a level of {reachable:g} or less"
    return (
        f"{what} cannot be reached: at most {highest:.2f} % of the {target} can go.\n"
        f"It is held there by {'; '.join(holds)}. "
        + (f"Ask for {ask}." if reachable > 0 else "No level can be reached.")
    )


def _least(number: float, target: Target) -> str:
    """The least goal, as one is asked for."""
    is_time = target == "latency"
    return f"{1.01 * number:.3g}ms or more" if is_time else f"{round(number)}-{target} or more"


def _limits_in_words(limits: Limits) -> list[str]:
    words = [f"the minimum of {limits.min_channels} channels a layer"]
    if limits.max_level is not None and limits.max_level < 100:
        words.append(f"the max_level of {limits.max_level:g} % of a layer")
    if limits.round_to > 1:
        words.append(f"widths that are multiples of {limits.round_to}")
    if limits.layers:
        words.append(f"the limits of {', '.join(map(shown_value, limits.layers))}")
    return words
