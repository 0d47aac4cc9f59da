"""The choice that reaches a latency, which is measured of few written networks.

A latency is neither exact nor monotone in the number of channels: a kernel may take longer for 37
channels than for 40. So the order of removal stays that of the scores, and only how far to go along
it is searched for. MACs say where to look first; what is measured there corrects the guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from prunecore.errors import LevelError, PrunecoreError
from prunecore.latency.timing import BUSY, Timing
from prunecore.planning.choices import Choice, Choices
from prunecore.planning.goal import Goal

T = TypeVar("T")

TOLERANCE = 0.05  # of the latency that is asked for, in which the one achieved may differ from it

_MOST_BUILDS = 12

# By how much a glance may miss to be worth a closer look, by the number of networks until which.
_NEAR = {5: 0.025, _MOST_BUILDS - 1: 0.035, _MOST_BUILDS: TOLERANCE}

_TRIES = 3  # to measure what is to be relied on

_QUICK, _THOROUGH = 0.6, 2.5  # seconds of a glance and of a closer look


@dataclass(frozen=True)
class Measured:
    """The latency of a network and of a smaller one, measured in turns.

    Attributes:
        backend: what ran them.
        threads: how many threads it had.
        before: of the whole network.
        after: of the smaller one.
        ratio: the median over turns of the smaller one's time in units of the whole one's; what
            slows a machine down meets both.
    """

    backend: str
    threads: int
    before: Timing
    after: Timing
    ratio: float

    def __str__(self) -> str:
        """Both latencies, as in `12.3 -> 8.05 ms`."""
        return f"{self.before.ms:.3g} -> {self.after.ms:.3g} ms"

    def as_dict(self) -> dict[str, object]:
        """What a report says of it."""
        return {
            "backend": self.backend,
            "threads": self.threads,
            "before": self.before.as_dict(),
            "after": self.after.as_dict(),
        }


class Measure(Protocol):
    """Writes and times networks."""

    def __call__(self, choice: Choice | None, seconds: float) -> Measured:
        """Measure beside the whole network the one of a choice, or, for `None`, the whole one."""


def closest_measured(
    choices: Choices, asked: float | Goal, measure: Measure
) -> tuple[Choice, Measured, float]:
    """The choice whose network is as fast as asked, to 5 percent.

    Args:
        choices: in the order of removal; their target is `macs`.
        asked: percentage of the latency to remove, or the latency that is to be left.
        measure: writes and times networks.

    Returns:
        The choice, what was measured of it, and the level asked for, in percent of the latency.

    Raises:
        LevelError: no choice is as fast, or none was found that is near enough.
        PrunecoreError: the machine is too busy to tell.
    """
    whole = quietly(lambda: measure(None, _THOROUGH), lambda found: found.before).before
    if isinstance(asked, Goal) and asked.number >= whole.ms:
        raise LevelError(
            f"Nothing has to go for the goal {asked.text}: the network takes {whole.ms:.3g} ms.\n"
            "Give a smaller goal."
        )
    search = _Search(choices, asked, measure, whole)
    for _ in range(_MOST_BUILDS):
        number = search.next_number()
        if number is None:
            break
        search.look_at(number)
        nearest = search.nearest_glance()
        if nearest is not None and (found := search.look_closer(nearest)):
            return found
    raise LevelError(search.what_is_wrong())


class _Search:
    """A search for the number of removed channels at which a latency is reached."""

    def __init__(
        self, choices: Choices, asked: float | Goal, measure: Measure, whole: Timing
    ) -> None:
        self._choices, self._asked, self._measure = choices, asked, measure
        self._whole = whole.ms
        self._ratios: dict[int, float] = {0: 1.0}  # by the number of removed channels
        self._looked_closer: set[int] = set()
        self._last: Measured | None = None

    @property
    def _wanted(self) -> float:
        """The latency to reach, in units of the whole network's."""
        asked = self._asked
        return asked.number / self._whole if isinstance(asked, Goal) else 1 - asked / 100

    def _miss(self, number: int) -> float:
        """By how much of the wanted latency a number of removed channels misses it."""
        return abs(self._ratios[number] / self._wanted - 1)

    def nearest_glance(self) -> int | None:
        """The number that is worth a closer look, if there is one; the later, the less near."""
        glances = self._ratios.keys() - self._looked_closer - {0}
        nearest = min(glances, key=self._miss, default=None)
        near = next(near for builds, near in _NEAR.items() if len(self._ratios) - 1 <= builds)
        return nearest if nearest is not None and self._miss(nearest) <= near else None

    def look_at(self, number: int) -> None:
        """Measure quickly."""
        self._last = self._measure(self._choices.after(number), _QUICK)
        self._ratios[number] = self._last.ratio

    def look_closer(self, number: int) -> tuple[Choice, Measured, float] | None:
        """Measure anew and longer; the result, if that is as asked, too."""
        choice = self._choices.after(number)
        found = self._last = quietly(
            lambda: self._measure(choice, _THOROUGH), lambda found: found.after
        )
        self._ratios[number] = found.ratio
        self._looked_closer.add(number)
        self._whole = found.before.ms
        reached = found.after.ms / self._whole if isinstance(self._asked, Goal) else found.ratio
        if abs(reached / self._wanted - 1) > TOLERANCE:
            return None
        return choice, found, 100 * (1 - self._wanted)

    def next_number(self) -> int | None:
        """The number to measure next; `None` where nothing is left to try."""
        tried = {self._choices.after(number).kept.tobytes() for number in self._ratios}
        for number in self._guesses():
            inside = min(max(number, 1), self._choices.most)
            if self._choices.after(inside).kept.tobytes() not in tried:
                return inside
        return None

    def _guesses(self) -> Iterator[int]:
        """Numbers to measure, the best first: by proportion to MACs, halfway, and further about."""
        wanted, most = self._wanted, self._choices.most
        too_slow = max(number for number, ratio in self._ratios.items() if ratio > wanted)
        fast = [number for number, ratio in self._ratios.items() if ratio <= wanted]
        beyond = [number for number in fast if number > too_slow]
        if not beyond:
            if too_slow == most:
                return
            yield self._number_at(too_slow, min(self._ratios[too_slow], 0.999))
            yield most
        else:
            low, high = too_slow, min(beyond)
            yield self._number_between(low, high)
            yield (low + high) // 2
        best = min(self._ratios, key=self._miss)
        for step in range(1, most):
            yield from (best - step, best + step)

    def _macs(self, number: int) -> float:
        return 1 - self._choices.gone(self._choices.after(number)) / 100 if number else 1.0

    def _number_at(self, number: int, ratio: float) -> int:
        """The number at which the line through the whole network and another one meets the goal."""
        slope = (1 - self._macs(number)) / (1 - ratio) if number else 1.0
        gone = 100 * (1 - self._wanted) * slope
        return self._choices.removed(min(max(gone, 1e-3), 100.0))

    def _number_between(self, low: int, high: int) -> int:
        """The number between two at which MACs are in the proportion that the latency is to be."""
        share = (self._ratios[low] - self._wanted) / (self._ratios[low] - self._ratios[high])
        macs = self._macs(low) + share * (self._macs(high) - self._macs(low))
        number = self._choices.removed(100 * (1 - macs))
        return min(max(number, low + 1), max(high - 1, low + 1))

    def what_is_wrong(self) -> str:
        """What was found instead, and what to ask for."""
        most = self._choices.most
        nearest = min((number for number in self._ratios if number), key=self._miss, default=most)
        ratio = self._ratios.get(nearest, 1.0)
        ms = f"{ratio * self._whole:.3g} ms of {self._whole:.3g} ms"
        if isinstance(self._asked, Goal):
            what = f"The goal {self._asked.text}"
            ask = f"{float(f'{1.02 * ratio * self._whole:.2g}'):g}ms or more"
        else:
            what, ask = f"Level {self._asked:g}", f"a level of {int(100 * (1 - ratio))} or less"
        if nearest == most and ratio > self._wanted:
            return (
                f"{what} cannot be reached: with all gone that may go, {ms} are left.\n"
                f"Ask for {ask}, or loosen the limits."
            )
        spread = f"{self._last.after.spread:.0%}" if self._last else "unknown"
        return (
            f"{what} was not met to 5 %: the nearest of {len(self._ratios) - 1} networks takes "
            f"{ms}, and turns spread by {spread}.\n"
            f"Try on a quiet machine, or without what holds widths (round_to)."
        )


def quietly(
    measure: Callable[[], T],
    timing: Callable[[T], Timing],
    remedy: str = "or give a table of layer latencies (--latency TABLE.json)",
) -> T:
    """Measure, and again where the machine did something else meanwhile.

    Args:
        measure: measures something.
        timing: what of it tells how far turns differ.
        remedy: what to do but to stop what else runs.

    Raises:
        PrunecoreError: the turns differ too much each time.
    """
    for _ in range(_TRIES):
        found = measure()
        if timing(found).spread <= BUSY:
            return found
    last = timing(found)
    raise PrunecoreError(
        f"The machine is too busy to measure a latency: turns of {last.ms:.3g} ms spread by "
        f"{100 * last.spread:.0f} %.\nStop what else runs on it, {remedy}."
    )
