"""The search for a latency, on machines that are made up."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import nn

from prunecore import LevelError, PrunecoreError
from prunecore.latency.timing import Timing
from prunecore.planning.choices import Choice, Choices, removal_order
from prunecore.planning.goal import read_goal
from prunecore.planning.latency import Measured, closest_measured
from prunecore.planning.plan import Plan, make_plan
from prunecore.planning.request import Limits


def chain(*widths: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(a, b) for a, b in itertools.pairwise(widths)))


@pytest.fixture
def found(find: Callable[..., Any]) -> Any:
    return find(chain(5, 200, 300, 4), (2, 5))


class Machine:
    """A machine whose time is a function of the share of channels that stay.

    Args:
        takes: milliseconds for a share.
        spread: of all turns.
        noise: by how much of it a measurement is off, drawn.
        drift: by how much of it everything takes longer at every further measurement.
    """

    def __init__(
        self,
        takes: Callable[[float], float],
        spread: float = 0.02,
        noise: float = 0.0,
        drift: float = 0.0,
    ) -> None:
        self.takes, self.spread, self.noise, self.drift = takes, spread, noise, drift
        self.random = np.random.default_rng(0)
        self.built: set[bytes] = set()
        self.pace = 1.0

    def __call__(self, choice: Choice | None, seconds: float) -> Measured:
        self.pace *= 1 + self.drift
        before = self.takes(1.0) * self.pace
        after = before
        if choice is not None:
            self.built.add(choice.kept.tobytes())
            off = 1 + self.noise * self.random.standard_normal()
            after = self.takes(float(choice.kept.mean())) * self.pace * off
        timings = Timing(before, self.spread), Timing(after, self.spread)
        return Measured("made-up", 1, *timings, after / before)


def planned(found: Any, level: Any, machine: Machine, **limits: Any) -> Plan:
    scores = np.random.default_rng(0).random(found.count)
    return make_plan(found, scores, level, "latency", Limits(**limits), measure=machine)


def steps(share: float) -> float:
    """Kernels for blocks of 16, with a penalty for what is left over."""
    width = 320 * share
    return 2 + 0.05 * (16 * np.ceil(width / 16)) + 0.3 * bool(width % 16)


MACHINES: dict[str, Callable[[float], float]] = {
    "square": lambda share: 20 * share**2,
    "mostly fixed": lambda share: 15 + 5 * share,
    "in steps": steps,
    "bumpy": lambda share: 20 * share + 0.8 * np.sin(90 * share),
}


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("share", [0.95, 0.8, 0.6, 0.4])
@pytest.mark.parametrize("is_goal", [True, False])
def test_a_latency_is_reached_with_few_networks(
    found: Any, name: str, share: float, is_goal: bool
) -> None:
    takes = MACHINES[name]
    whole, least = takes(1.0), takes(0.02)
    wanted = least + share * (whole - least)
    machine = Machine(takes, noise=0.005)
    level = read_goal(f"{wanted:.4f}ms") if is_goal else 100 * (1 - wanted / whole)
    plan = planned(found, level, machine)
    assert plan.latency is not None
    assert plan.latency.after.ms == pytest.approx(wanted, rel=0.05)
    assert takes(float(plan.kept.mean())) == pytest.approx(wanted, rel=0.07)
    assert plan.achieved == pytest.approx(100 * (1 - wanted / whole), abs=5)
    assert plan.asked == pytest.approx(100 * (1 - wanted / whole), abs=0.01)
    assert plan.target == "latency"
    assert len(machine.built) <= 8


def test_the_worst_scores_go_whatever_the_latency(found: Any) -> None:
    scores = np.random.default_rng(0).random(found.count)
    plan = planned(found, 40, Machine(MACHINES["bumpy"]))
    gone, kept = scores[~plan.kept], scores[plan.kept & found.removable]
    assert gone.max() < kept.min()


def test_a_pace_that_drifts_changes_nothing(found: Any) -> None:
    machine = Machine(MACHINES["square"], drift=0.03)
    plan = planned(found, 50, machine)
    assert MACHINES["square"](float(plan.kept.mean())) == pytest.approx(10, rel=0.05)


def test_widths_stay_as_limits_have_them(found: Any) -> None:
    plan = planned(found, 50, Machine(MACHINES["square"]), round_to=8)
    for path in ("0", "1"):
        assert plan.kept[found.axes[found.layers[path]]].sum() % 8 == 0
    assert plan.latency is not None
    assert plan.latency.ratio == pytest.approx(0.5, rel=0.05)


def test_a_latency_that_cannot_be_reached(found: Any) -> None:
    machine = Machine(MACHINES["mostly fixed"])
    with pytest.raises(LevelError) as caught:
        planned(found, read_goal("9ms"), machine)
    assert str(caught.value) == (
        "The goal 9ms cannot be reached: with all gone that may go, 15.1 ms of 20 ms are left.\n"
        "Ask for 15ms or more, or loosen the limits."
    )
    assert len(machine.built) <= 3
    with pytest.raises(LevelError, match=r"^Level 60 cannot be reached: .*\nAsk for a level of 24"):
        planned(found, 60, machine)


def test_a_latency_that_is_there_already(found: Any) -> None:
    machine = Machine(MACHINES["square"])
    with pytest.raises(LevelError) as caught:
        planned(found, read_goal("20ms"), machine)
    assert str(caught.value) == (
        "Nothing has to go for the goal 20ms: the network takes 20 ms.\nGive a smaller goal."
    )
    assert not machine.built


def test_a_busy_machine_is_refused(found: Any) -> None:
    machine = Machine(MACHINES["square"], spread=0.5)
    with pytest.raises(PrunecoreError) as caught:
        planned(found, 50, machine)
    assert str(caught.value) == (
        "The machine is too busy to measure a latency: turns of 20 ms spread by 50 %.\n"
        "Stop what else runs on it, or give a table of layer latencies (--latency TABLE.json)."
    )


def test_a_latency_that_is_jumped_over_is_said(found: Any) -> None:
    machine = Machine(lambda share: 20 if share > 0.5 else 10)
    with pytest.raises(LevelError) as caught:
        planned(found, 30, machine)
    first, second = str(caught.value).splitlines()
    assert first.startswith("Level 30 was not met to 5 %: the nearest of 12 networks takes ")
    assert first.endswith(" and turns spread by 2%.")
    assert second == "Try on a quiet machine, or without what holds widths (round_to)."
    assert len(machine.built) == 12


def test_nothing_may_go(find: Callable[..., Any]) -> None:
    found = find(chain(5, 20, 4), (2, 5))
    with pytest.raises(LevelError, match=r"at most 0\.00 % of the latency can go"):
        planned(found, 50, Machine(MACHINES["square"]), layers={"0": "keep"})


def test_what_a_report_says_of_it() -> None:
    found = Measured("eager", 2, Timing(20.0, 0.01), Timing(9.87654321, 0.02), 0.49)
    assert str(found) == "20 -> 9.88 ms"
    assert found.as_dict() == {
        "backend": "eager",
        "threads": 2,
        "before": {"ms": 20.0, "spread": 0.01},
        "after": {"ms": 9.8765, "spread": 0.02},
    }


def test_the_search_takes_choices_as_they_come(found: Any) -> None:
    order = removal_order(found, np.arange(found.count, dtype=float), Limits())
    choices = Choices(found, order, "macs", Limits(), ())
    machine = Machine(MACHINES["square"])
    choice, measured, asked = closest_measured(choices, 50, machine)
    assert asked == 50
    assert measured.ratio == pytest.approx(choice.kept.mean() ** 2)
