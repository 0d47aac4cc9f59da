"""Timing of calls: medians of many turns, and how far apart these are."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDE = 0.1  # a spread that is worth a word: a quiet machine's is a few hundredths

BUSY = 0.4  # a spread at which the median of as many turns may be off by as much as is tolerated

_WARM_UPS = 3
_LEAST_TURNS, _MOST_TURNS = 15, 200
_SHORTEST = 1e-3  # seconds of a turn: shorter calls are repeated, as a clock has its own grain


@dataclass(frozen=True)
class Timing:
    """How long something takes.

    Attributes:
        ms: the median of all turns, in milliseconds.
        spread: the interquartile range of the turns over their median.
    """

    ms: float
    spread: float

    def as_dict(self) -> dict[str, float]:
        """Both figures by name, rounded to what a clock tells."""
        return {"ms": float(f"{self.ms:.5g}"), "spread": round(self.spread, 4)}


def timing_of(turns: NDArray[np.float64]) -> Timing:
    """The median and the spread of some turns.

    Args:
        turns: milliseconds of each, shape `(turns,)`.
    """
    low, median, high = np.percentile(turns, (25, 50, 75))
    return Timing(float(median), float((high - low) / median) if median else 0.0)


def take_turns(runs: Sequence[Callable[[], Any]], seconds: float) -> NDArray[np.float64]:
    """Time calls turn by turn, so that a change of the machine's pace meets all of them alike.

    Args:
        runs: what is called.
        seconds: that all of it may take; there are some turns in any case.

    Returns:
        Milliseconds of a call, shape `(runs, turns)`.
    """
    with _without_garbage_collection():
        for run in runs:
            for _ in range(_WARM_UPS - 1):
                run()
        times = [max(_time(run, 1), 1e-6) for run in runs]
        repeats = [math.ceil(_SHORTEST / time) if time < _SHORTEST else 1 for time in times]
        round_trip = sum(time * count for time, count in zip(times, repeats, strict=True))
        turns = min(max(int(seconds / round_trip), _LEAST_TURNS), _MOST_TURNS)
        taken = [
            [_time(run, count) for run, count in zip(runs, repeats, strict=True)]
            for _ in range(turns)
        ]
    return 1e3 * np.array(taken, dtype=np.float64).T


def _time(run: Callable[[], Any], repeats: int) -> float:
    """Seconds of a call, the mean of several in a row."""
    start = perf_counter()
    for _ in range(repeats):
        run()
    return (perf_counter() - start) / repeats


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
