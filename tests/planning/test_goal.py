"""Goals: what users write, what it counts, and what is said of what is none."""

from __future__ import annotations

import pytest

from prunecore import UsageError
from prunecore.planning.goal import read_goal


@pytest.mark.parametrize(
    ("text", "written", "target", "number"),
    [
        ("5M-params", "5M-params", "params", 5_000_000),
        (" 1G-macs ", "1G-macs", "macs", 10**9),
        ("1.50G-macs", "1.5G-macs", "macs", 1_500_000_000),
        ("800k-params", "800k-params", "params", 800_000),
        ("100-params", "100-params", "params", 100),
        ("0.5k-channels", "0.5k-channels", "channels", 500),
        ("12MB", "12M-bytes", "bytes", 12_000_000),
        ("12M-bytes", "12M-bytes", "bytes", 12_000_000),
        ("640B", "640-bytes", "bytes", 640),
        ("007M-params", "7M-params", "params", 7_000_000),
        ("10.0M-params", "10M-params", "params", 10_000_000),
        ("12ms", "12ms", "latency", 12.0),
        ("0.50ms", "0.5ms", "latency", 0.5),
        ("800us", "800us", "latency", 0.8),
        ("1.5s", "1.5s", "latency", 1500.0),
    ],
)
def test_a_goal_is_a_number_and_what_it_counts(
    text: str, written: str, target: str, number: float
) -> None:
    goal = read_goal(text)
    assert (goal.text, goal.target, goal.number) == (written, target, number)
    assert read_goal(goal.text) == goal


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("5", "'5' is no goal.\nGive a number and its unit: 5M-params"),
        (5_000_000, "5000000 is no goal"),
        (None, "None is no goal"),
        ("", "'' is no goal"),
        ("M-params", "'M-params' is no goal"),
        ("-5M-params", "'-5M-params' is no goal"),
        ("1_000-params", "Unknown unit '_000-params' of the goal '1_000-params'"),
        ("5M-parms", "Unknown unit 'M-parms' of the goal '5M-parms'. Did you mean '5M-params'?"),
        ("5m-params", "Did you mean '5M-params'?"),
        ("12m", "Unknown unit 'm' of the goal '12m'. Did you mean '12ms'?"),
        ("5M-latency", "Unknown unit 'M-latency'"),
        ("0ms", "The goal '0ms' leaves nothing."),
        ("12MiB", "Unknown unit 'MiB'"),
        ("\u0665M-params", "is no goal"),
        ("1e6-params", "Unknown unit 'e6-params'"),
        ("0M-params", "The goal '0M-params' leaves nothing."),
        ("0.4-params", "The goal '0.4-params' leaves nothing."),
    ],
)
def test_anything_else_is_no_goal(given: object, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_goal(given)
    assert message in str(caught.value)
