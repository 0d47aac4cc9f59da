"""Whatever stands in a flag or lies in a file, the command line ends as it should, in time.

Every fault that this found has a test of its own, in the room of what was at fault.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings

from prunecore.latency import timing

from .configurations import configuration_cases
from .flags import flag_cases
from .harness import Case, run
from .sets import set_cases
from .weights import weights_cases

KINDS = {
    "flags": flag_cases(),
    "configurations": configuration_cases(),
    "weights": weights_cases(),
    "sets": set_cases(),
}
HEALTH = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def check_many(kind: str, count: int, number: int, folder: Path) -> None:
    """Run so many cases of a kind, always the same for a number; some of them reach their end."""
    codes: Counter[int | None] = Counter()

    @seed(number)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=HEALTH)
    @given(KINDS[kind])
    def each(case: Case) -> None:
        end = run(case, folder)
        assert end.fault is None, end.fault
        codes[end.exit_code] += 1

    each()
    assert min(codes[0], codes[1] + codes[2]) >= 0.02 * count


@pytest.fixture(autouse=True)
def quick_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a clock tells does not matter here: it looks twice, not hundreds of times."""
    monkeypatch.setattr(timing, "_LEAST_TURNS", 2)
    monkeypatch.setattr(timing, "_MOST_TURNS", 2)


@pytest.mark.parametrize("kind", KINDS)
def test_no_case_ends_in_a_traceback(kind: str, tmp_path: Path) -> None:
    check_many(kind, 125, 0, tmp_path)


@pytest.mark.fuzz
@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of a case with large files
@pytest.mark.parametrize("part", range(1, 11))
@pytest.mark.parametrize("kind", KINDS)
def test_none_of_twenty_thousand_cases_does(kind: str, part: int, tmp_path: Path) -> None:
    check_many(kind, 500, part, tmp_path)
