"""What is asked of one smaller network: a level of a target, a mode, and limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, Literal

from prunecore.criteria.scoring import OPEN, Scoring
from prunecore.errors import UsageError, check_kind, check_names, unknown_name
from prunecore.escaping import shown_value
from prunecore.planning.goal import TARGETS, Goal, Target, read_goal

Scope = Literal["global", "group"]

SCOPES: tuple[Scope, ...] = ("global", "group")

KEEP = "keep"  # in place of the limits of a layer: none of its channels goes

DEFAULT_MODE = "magnitude"  # the best of those that read no images

CALIBRATED_MODE = "surgeon"  # and of those that do

DATA_FREE = "data-free"  # the step of recovery for networks without images

RECOVERY_STEPS = ("refit", "batch-norm", DATA_FREE)

NO_RECOVERY = "none"  # in the place of steps

DEFAULT_BACKEND = "eager"  # runs networks to measure latencies

MOST_STEPS = 100  # in which a level is reached

LayerLimits = str | Mapping[str, float]  # KEEP, or max_level and min_channels, either or both


@dataclass(frozen=True)
class Limits:
    """What has to stay of a network, whatever the level.

    Attributes:
        min_channels: how many channels every layer keeps at least.
        remove_blocks: whether a residual block may go as a whole, when its inner width has come
            down to the minimum and its shortcut is the identity.
        scope: `global` ranks the channels of the whole network together; `group` takes the same
            share of every group of coupled layers.
        max_level: how many percent of any one layer's channels may go; `None` for any number.
        round_to: every width that is cut becomes a multiple of this. A layer that is narrower stays
            whole.
        layers: limits of single layers in place of `min_channels` and `max_level`, by a pattern
            of paths such as `layer4.*`: `"keep"`, or `{"max_level": 30, "min_channels": 16}`,
            either or both.
    """

    min_channels: int = 2
    remove_blocks: bool = False
    scope: Scope = "global"
    max_level: float | None = None
    round_to: int = 1
    layers: Mapping[str, LayerLimits] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what is no limit.

        Raises:
            UsageError: a value is out of its range, or names no scope or limit.
        """
        check_count("min_channels", self.min_channels, "how many channels every layer keeps, as 2")
        check_count("round_to", self.round_to, "what widths are to be multiples of, as 8")
        if self.scope not in SCOPES:
            raise unknown_name("scope", str(self.scope), SCOPES)
        if not isinstance(self.remove_blocks, bool):
            raise UsageError(
                f"remove_blocks is {shown_value(self.remove_blocks)}, not True or False.\n"
                "Give remove_blocks=True to let whole residual blocks go."
            )
        if self.max_level is not None:
            check_max_level("max_level", self.max_level)
        object.__setattr__(self, "layers", check_layers(self.layers))


def check_count(name: str, value: object, what: str) -> int:
    """A limit, if it is a number of channels.

    Args:
        name: of the limit.
        value: what was given.
        what: it is, and an example.

    Raises:
        UsageError: it is not a whole number of at least 1.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UsageError(
            f"{name} is {shown_value(value)}, not a whole number of at least 1.\nGive {what}."
        )
    return value


def check_steps(value: object) -> int:
    """In how many steps a level is reached, if it is a number of such.

    Raises:
        UsageError: it is not a whole number from 1 to `MOST_STEPS`.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_STEPS:
        raise UsageError(
            f"steps is {shown_value(value)}, not a whole number from 1 to {MOST_STEPS}.\n"
            "Give in how many steps the level is reached, as 4."
        )
    return value


def check_max_level(name: str, value: object) -> float:
    """A limit, if it is a percentage of what may go.

    Raises:
        UsageError: it is not above 0 and at most 100.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 100:
        raise UsageError(
            f"{name} is {shown_value(value)}, not a percentage above 0, and of at most 100.\n"
            "Give how many percent of a layer's channels may go, as 80."
        )
    return value


def check_layers(layers: object) -> dict[str, LayerLimits]:
    """Limits of single layers, if they are such, by pattern.

    Raises:
        UsageError: they are no mapping of patterns to limits, or a limit is unknown or no number.
    """
    if not isinstance(layers, Mapping):
        raise UsageError(f"layers is {shown_value(layers)}.\n{_LAYERS}")
    for pattern, limits in layers.items():
        if not isinstance(pattern, str) or not (limits == KEEP or _is_mapping(limits)):
            raise UsageError(
                f"The limit of {shown_value(pattern)} is {shown_value(limits)}.\n{_LAYERS}"
            )
        for name, value in {} if limits == KEEP else limits.items():
            whose = f"{name} of {shown_value(pattern)}"
            if name == "max_level":
                check_max_level(whose, value)
            elif name == "min_channels":
                check_count(whose, value, "how many channels the layer keeps, as 16")
            else:
                raise unknown_name("limit", str(name), ("max_level", "min_channels"))
    return {pattern: KEEP if limits == KEEP else dict(limits) for pattern, limits in layers.items()}


def _is_mapping(limits: Any) -> bool:
    return isinstance(limits, Mapping) and bool(limits)


_LAYERS = "Give patterns with limits: {'stem*': 'keep', 'layer4.*': {'max_level': 30}}."


def checked_level(level: object) -> float:
    """A level, if it is one.

    Raises:
        UsageError: it is not a percentage between 0 and 100.
    """
    is_number = isinstance(level, Real) and not isinstance(level, bool)
    number = float(level) if is_number else 0.0  # type: ignore[arg-type]
    if not 0 < number < 100:
        raise UsageError(
            f"Level {shown_value(level)} is not a percentage between 0 and 100.\n"
            "Give the share of the target to remove, such as level=50."
        )
    return int(number) if isinstance(level, Integral) else number


def asked_level(level: object, to: str | None) -> float | Goal:
    """A level, or what is to be left in its place.

    Raises:
        UsageError: neither is given, or both, or it is none.
    """
    if (level is None) == (to is None):
        raise UsageError(
            f"{'Neither a level nor' if to is None else 'Both a level and'} a goal are given.\n"
            "Give one of them: level=50, or to='5M-params'."
        )
    return checked_level(level) if to is None else read_goal(to)


def target_of(level: float | Goal, target: Target) -> Target:
    """What is counted: a goal has its own target."""
    return level.target if isinstance(level, Goal) else target


def check_asked(mode: object, seed: object, scoring: object) -> None:
    """Refuse what says of no way to score channels.

    Raises:
        UsageError: the mode is no text, the seed no whole number of at least 0, or what is given as
            scoring is none.
    """
    check_kind("mode", mode, str, "Give the name of a criterion, such as mode='magnitude'.")
    check_kind("scoring", scoring, Scoring, "Give prunecore.Scoring(reduce='mean').")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise UsageError(
            f"seed is {shown_value(seed)}, not a whole number of at least 0.\nGive one, as seed=1."
        )


def checked_recovery(recover: object, has_images: bool) -> tuple[str, ...]:
    """The steps of recovery that are asked for, in order; the default where none are.

    Args:
        recover: their names, or one; `none` for none; `None` for the default.
        has_images: whether there are calibration images.

    Raises:
        UsageError: one is not known, or there are no images for them.
    """
    if recover is None:
        return ("refit",) if has_images else ()
    steps: Any = [recover] if isinstance(recover, str) else recover
    check_names("recover", steps, f"Give some of {', '.join(RECOVERY_STEPS)}, or [] for none.")
    if list(steps) == [NO_RECOVERY]:
        return ()
    if NO_RECOVERY in steps:
        raise UsageError("recover has none beside other steps.\nGive the one or the others.")
    for step in steps:
        if step not in RECOVERY_STEPS:
            raise unknown_name("step of recovery", step, (*RECOVERY_STEPS, NO_RECOVERY))
    if DATA_FREE in steps and len(steps) > 1:
        raise UsageError(
            f"The step {DATA_FREE} is for networks without images, and goes with no other.\n"
            "Leave it or the others out."
        )
    if steps and DATA_FREE not in steps and not has_images:
        raise UsageError(
            f"The step {steps[0]} reads images, and none are given.\n"
            "Give some: --calibrate FOLDER, or calibration= in Python."
        )
    return tuple(steps)


def checked_target(target: Target) -> Target:
    """A target, if it is one.

    Raises:
        UsageError: it is not known.
    """
    if target not in TARGETS:
        raise unknown_name("target", str(target), TARGETS)
    return target


@dataclass(frozen=True)
class Request:
    """What is asked of one smaller network.

    Attributes:
        level: percentage of the target to remove, within (0, 100), or what is to be left.
        mode: the importance criterion.
        target: what the level is a percentage of; a goal has its own.
        seed: of modes that draw.
        limits: what has to stay.
        name: of the factory in the written file; made from the class's name where not given.
        verify: whether to prove the written network right.
        origin: what the written file says it was made from.
        fingerprint: of all that the written set depends on; the report holds it.
        scoring: what of a channel counts, and how it is put together.
        recover: the steps that give the accuracy back, in order.
        steps: in how many steps the level is reached, from 1 to `MOST_STEPS`.
        latency: where latencies come from: the name of what runs networks to measure them.
    """

    level: float | Goal
    mode: str = DEFAULT_MODE
    target: Target = "params"
    seed: int = 0
    limits: Limits = Limits()
    name: str | None = None
    verify: bool = True
    origin: str | None = None
    fingerprint: str | None = None
    scoring: Scoring = OPEN
    recover: tuple[str, ...] = ()
    steps: int = 1
    latency: str = DEFAULT_BACKEND

    def __post_init__(self) -> None:
        """Name the mode as reports and files do, whichever way it was written.

        Raises:
            UsageError: a value is of another kind, or out of its range.
        """
        check_asked(self.mode, self.seed, self.scoring)
        check_kind("limits", self.limits, Limits, "Give prunecore.Limits(min_channels=8).")
        check_steps(self.steps)
        check_kind("latency", self.latency, str, "Give the name of a backend, as latency='eager'.")
        target = target_of(self.level, self.target)
        if target != "latency" and self.latency != DEFAULT_BACKEND:
            raise UsageError(
                f"latency is {shown_value(self.latency)}, where latencies come from, and what is "
                f"asked for is {target}.\nLeave it out, or ask for a time: to='12ms' (--to 12ms)."
            )
        if target == "latency" and self.steps > 1:
            raise UsageError(
                f"A latency is reached in one step, not in {self.steps}: each would be measured.\n"
                "Leave steps out, or take another target, such as macs."
            )
        object.__setattr__(self, "mode", self.mode.replace("_", "-"))
