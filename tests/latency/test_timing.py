"""Timing: what medians and spreads are made of, by a clock that the tests move."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable

import numpy as np
import pytest

from prunecore.latency import timing


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Callable[[], None]]:
    """Makes calls that take so many seconds of a clock that nothing else moves."""
    now = [0.0]
    monkeypatch.setattr(timing, "perf_counter", lambda: now[0])

    def taking(seconds: float) -> Callable[[], None]:
        def run() -> None:
            now[0] += seconds

        return run

    return taking


def test_a_timing_is_the_median_and_what_lies_about_it() -> None:
    found = timing.timing_of(np.array([9.0, 10.0, 10.0, 11.0, 90.0]))
    assert found == timing.Timing(10.0, 0.1)
    assert timing.timing_of(np.zeros(5)).spread == 0
    assert timing.Timing(12.3456789, 0.123456).as_dict() == {"ms": 12.346, "spread": 0.1235}


def test_calls_take_turns(clock: Callable[[float], Callable[[], None]]) -> None:
    order: list[str] = []

    def noting(name: str, seconds: float) -> Callable[[], None]:
        run = clock(seconds)
        return lambda: (order.append(name), run())[1]

    turns = timing.take_turns([noting("a", 0.01), noting("b", 0.03)], 0.8)
    assert turns.shape == (2, 20)
    assert turns[0] == pytest.approx(np.full(20, 10.0))
    assert turns[1] == pytest.approx(np.full(20, 30.0))
    assert order[-40:] == ["a", "b"] * 20


def test_there_are_some_turns_and_never_too_many(
    clock: Callable[[float], Callable[[], None]],
) -> None:
    assert timing.take_turns([clock(5.0)], 1.0).shape == (1, 15)
    assert timing.take_turns([clock(0.002)], 1000.0).shape == (1, 200)


def test_short_calls_are_repeated(clock: Callable[[float], Callable[[], None]]) -> None:
    calls = itertools.count()
    run = clock(0.0003)
    turns = timing.take_turns([lambda: (next(calls), run())[1]], 0.1)
    assert turns == pytest.approx(np.full(turns.shape, 0.3))
    assert next(calls) == 3 + 4 * turns.shape[1]


def test_garbage_is_not_collected_meanwhile() -> None:
    states: list[bool] = []
    timing.take_turns([lambda: states.append(gc.isenabled())], 0.0)
    assert not any(states)
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        timing.take_turns([lambda: 1 / 0], 0.0)
    assert gc.isenabled()
