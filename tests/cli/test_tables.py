"""Tables and lines of what was done."""

from __future__ import annotations

from typing import Any

import pytest

from prunecore.cli.tables import few_lines, level_lines, prune_table, undone_lines

COST = {"params": 2_000, "macs": 3, "bytes": 5}


def step(before: float | None, after: float | None, undone: bool, held: int = 32) -> dict[str, Any]:
    return {
        "step": "refit",
        "held_back": held,
        "agreement": [before, after],
        "standard_error": None if after is None else 0.35,
        "error": [0.4964, 0.02751],
        "undone": undone,
    }


def report(*steps: dict[str, Any]) -> dict[str, Any]:
    level = {"asked": 50, "achieved": 50.1}
    return {
        **{"model": "net", "mode": "surgeon", "target": "params", "goal": None, "latency": None},
        **{"level": level, "before": COST, "after": COST, "verified": None},
        "limits": {"round_to": 1},
        "recovered": list(steps),
    }


@pytest.mark.parametrize(
    ("steps", "cell"),
    [
        ([step(0.9, 1.0, False)], "90.0% -> 100.0%"),
        ([step(1.0, 0.5, True)], "100.0%, refit undone"),
        ([step(0.9, 1.0, False), step(1.0, 0.5, True)], "90.0% -> 100.0%, refit undone"),
        ([step(None, None, False)], "- -> -"),
    ],
)
def test_a_step_that_was_undone_is_told_from_one_that_stays(
    steps: list[dict[str, Any]], cell: str
) -> None:
    table = prune_table([report(*steps)])
    assert [*table.columns[-1].cells] == [cell]


def test_what_an_undone_step_has_brought() -> None:
    assert undone_lines(report(step(1.0, 0.8333, True, held=6))) == [
        "Undone: refit. On 6 images held back, net then agreed with its original in 83.3% "
        "(100.0% before), and had a relative error of 0.0275 (0.496 before). More calibration "
        "images tell more surely."
    ]
    (line,) = undone_lines(report(step(None, None, True, held=1)))
    assert line.startswith("Undone: refit. On 1 image held back, net then had a relative error of")
    noise = {**step(1.0, 0.5, True), "step": "data-free"}
    assert undone_lines(report(noise))[0].endswith("before).")  # more of it are not to be had


def test_few_images_tell_little() -> None:
    (line,) = few_lines(report(step(0.5, 1.0, False, held=2)))
    assert "on 2 images held back: the agreement may be off by 35 points" in line
    assert few_lines(report(step(0.5, 1.0, False))) == []
    assert few_lines(report(step(None, None, False, held=2))) == []


def test_a_level_that_widths_miss_is_told() -> None:
    missed = {**report(), "level": {"asked": 12.5, "achieved": 16.22}, "limits": {"round_to": 8}}
    assert level_lines(missed) == [
        "Note: 16.22 % of the params of net are gone in place of 12.5 %: with widths that are "
        "multiples of 8 no nearer level was found."
    ]
    single = {**report(), "level": {"asked": 0.5, "achieved": 2.03}}
    assert level_lines(single)[0].endswith("with whole channels no nearer level was found.")
    assert level_lines(report()) == []
    assert level_lines({**missed, "target": "latency"}) == []
