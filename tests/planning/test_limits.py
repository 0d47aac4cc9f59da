"""Limits on one network: scopes, limits of layers, multiples, and what cannot be had."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunecore import LevelError, UsageError
from prunecore.planning.goal import COUNTED, read_goal
from prunecore.planning.plan import Plan, make_plan
from prunecore.planning.request import Limits

from .. import toy


def chain(*widths: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(a, b) for a, b in itertools.pairwise(widths)))


class Residual(nn.Module):
    """Two layers make the stream, two others what is added to it side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again = nn.Linear(4, 48), nn.Linear(48, 48)
        self.left, self.right = nn.Linear(48, 16), nn.Linear(48, 32)
        self.inner, self.fc = nn.Linear(48, 40), nn.Linear(40, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.again(x)
        x = x + torch.cat([self.left(x), self.right(x)], 1)
        return self.fc(self.inner(x))


class Grouped(nn.Module):
    """A layer whose channels lie at three places each."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = toy.Dense(4, 32), nn.Linear(96, 20)
        self.fc = nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.fc(self.b(torch.cat([x, x, x], 1)))


def scores(found: Any, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random(found.count)


def widths(found: Any, plan: Plan) -> dict[str, int]:
    """How many places are left of each layer."""
    kept = np.append(plan.kept, True)
    return {path: int(kept[found.axes[index]].sum()) for path, index in found.layers.items()}


def planned(found: Any, level: Any, target: Any = "params", **limits: Any) -> Plan:
    return make_plan(found, scores(found), level, target, Limits(**limits))


def message(error: type[Exception], job: Callable[[], Any]) -> str:
    with pytest.raises(error) as caught:
        job()
    return str(caught.value)


@pytest.mark.parametrize("target", COUNTED)
def test_a_group_loses_the_same_share_as_every_other(find: Callable[..., Any], target: Any) -> None:
    found = find(chain(5, 100, 200, 50, 4), (2, 5))
    uneven = scores(found)
    uneven[found.axes[found.layers["0"]]] += 7  # which a global ranking would leave whole
    plan = make_plan(found, uneven, 60, target, Limits(scope="group"))
    left = widths(found, plan)
    shares = [left["0"] / 100, left["1"] / 200, left["2"] / 50]
    assert max(shares) - min(shares) <= 0.02
    assert plan.limits.scope == "group"
    assert plan.achieved == pytest.approx(60, abs=1)
    for index in list(found.layers.values())[:3]:
        made = found.axes[index]
        kept = plan.kept[made]
        assert uneven[made[~kept]].max() < uneven[made[kept]].min()
    assert widths(found, make_plan(found, uneven, 30, target))["0"] == 100


@pytest.mark.parametrize("highest", [30, 55.5, 100])
def test_no_more_of_a_layer_goes_than_may(find: Callable[..., Any], highest: float) -> None:
    found = find(chain(5, 40, 60, 4), (2, 5))
    uneven = scores(found)
    uneven[found.axes[found.layers["0"]]] += 7
    plan = make_plan(found, uneven, 30, limits=Limits(max_level=highest))
    left = widths(found, plan)
    assert left["1"] >= 60 * (100 - highest) / 100
    assert plan.achieved == pytest.approx(30, abs=1)


def test_what_all_layers_hold_is_counted_once(find: Callable[..., Any]) -> None:
    found = find(Residual(), (2, 4))
    limits = Limits(max_level=50, min_channels=1)
    with pytest.raises(LevelError) as caught:
        make_plan(found, scores(found), 99, limits=limits)
    highest = float(str(caught.value).rpartition("level of ")[2].split(" or ")[0])
    plan = make_plan(found, scores(found), highest, limits=limits)
    left = widths(found, plan)
    assert (left["left"], left["right"], left["stem"], left["inner"]) == (8, 16, 24, 20)


def test_limits_of_layers_come_in_place_of_the_others(find: Callable[..., Any]) -> None:
    found = find(chain(5, 40, 60, 80, 4), (2, 5))
    layers = {"0": "keep", "1": {"max_level": 20}, "[2]": {"min_channels": 30}}
    plan = planned(found, 40, layers=layers, max_level=90)
    left = widths(found, plan)
    assert left["0"] == 40
    assert left["1"] >= 48
    assert left["2"] >= 30
    assert plan.achieved == pytest.approx(40, abs=1)


def test_patterns_that_agree_may_meet(find: Callable[..., Any]) -> None:
    found = find(chain(5, 40, 60, 4), (2, 5))
    layers = {"*": {"max_level": 60}, "0": {"min_channels": 30, "max_level": 60}}
    assert widths(found, planned(found, 30, layers=layers))["0"] >= 30


@pytest.mark.parametrize("net", [Residual, Grouped, lambda: chain(5, 64, 50, 40, 4)])
@pytest.mark.parametrize("round_to", [4, 8])
@pytest.mark.parametrize("target", COUNTED)
@pytest.mark.parametrize("scope", ["global", "group"])
def test_widths_become_multiples_and_the_level_is_met(
    find: Callable[..., Any], net: Callable[[], nn.Module], round_to: int, target: Any, scope: Any
) -> None:
    model = net()
    found = find(model, (2, next(model.parameters()).shape[1]))
    levels = (30, 50)
    for level in levels:
        plan = planned(found, level, target, round_to=round_to, scope=scope)
        left = widths(found, plan)
        del left[next(reversed(left))]  # the outputs
        assert [width % round_to for width in left.values()] == [0] * len(left)
        assert min(left.values()) >= round_to
        # one step of the widest layer, in percent
        assert abs(plan.achieved - level) < 100 * round_to / 40


def test_a_level_is_met_closer_by_a_step_of_another_group(find: Callable[..., Any]) -> None:
    found = find(chain(4, 64, 64, 64, 64, 4), (2, 4))
    errors = [
        abs(planned(found, level, round_to=16).achieved - level) for level in range(20, 80, 3)
    ]
    assert max(errors) < 6
    assert float(np.mean(errors)) < 3


def test_a_layer_narrower_than_the_multiple_stays_whole(find: Callable[..., Any]) -> None:
    found = find(chain(4, 6, 64, 4), (2, 4))
    left = widths(found, planned(found, 40, round_to=8))
    assert left["0"] == 6
    assert left["1"] % 8 == 0


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        (
            {"9*": "keep"},
            "Unknown layer '9*'.\nKnown: 0, 1, 2.",
        ),
        (
            {"*": {"max_level": 30}, "1": "keep"},
            "The limits of 0 contradict|The limits of 1 contradict one another: it is given "
            "{'max_level': 30} by '*' and 'keep' by '1'.\nGive each layer one value.",
        ),
        (
            {"1": {"min_channels": 5}, "[1]": {"min_channels": 6}},
            "The limits of 1 contradict one another: it is given {'min_channels': 5} by '1' and "
            "{'min_channels': 6} by '[1]'.\nGive each layer one value.",
        ),
        (
            {"?": {"min_channels": 41}},
            "min_channels of '?' is 41, and 0 has 40 channels.\nGive at most 40, or 'keep'.",
        ),
    ],
)
def test_limits_that_fit_no_layer_or_contradict(
    find: Callable[..., Any], layers: Mapping[str, Any], text: str
) -> None:
    found = find(chain(5, 40, 60, 4), (2, 5))
    assert message(UsageError, lambda: planned(found, 30, layers=layers)) in text


def test_the_nearest_layer_is_named(find: Callable[..., Any]) -> None:
    found = find(Residual(), (2, 4))
    text = message(UsageError, lambda: planned(found, 30, layers={"iner": "keep"}))
    assert text.startswith("Unknown layer 'iner'. Did you mean 'inner'?")


def test_what_holds_the_highest_level_is_named(find: Callable[..., Any]) -> None:
    found = find(chain(5, 40, 60, 4), (2, 5))
    limits = {"max_level": 50, "round_to": 8, "layers": {"0": "keep"}}
    text = message(LevelError, lambda: planned(found, 80, **limits))
    assert "Level 80 cannot be reached: at most " in text
    assert (
        "It is held there by the minimum of 2 channels a layer; the max_level of 50 % of a layer; "
        "widths that are multiples of 8; the limits of '0'. Ask for a level of " in text
    )
    highest = float(text.rpartition("level of ")[2].split(" or ")[0])
    assert planned(found, highest, **limits).achieved == pytest.approx(highest, abs=0.1)


def test_all_layers_kept_leave_no_level(find: Callable[..., Any]) -> None:
    found = find(chain(5, 40, 60, 4), (2, 5))
    text = message(LevelError, lambda: planned(found, 10, layers={"*": "keep"}))
    assert text.endswith("the limits of '*'. No level can be reached.")


@pytest.mark.parametrize("goal", ["2k-params", "1.5k-macs", "7kB", "60-channels"])
def test_a_goal_is_what_is_left(find: Callable[..., Any], goal: str) -> None:
    found = find(chain(5, 40, 60, 4), (2, 5))
    asked = read_goal(goal)
    plan = planned(found, asked, "macs")
    assert (plan.goal, plan.target) == (asked, asked.target)
    assert plan.achieved == pytest.approx(plan.asked, abs=1)
    left = (
        int(plan.kept[found.removable].sum())
        if asked.target == "channels"
        else getattr(plan.after, asked.target)
    )
    assert left == pytest.approx(asked.number, rel=0.03)
    assert f"asked {asked.text}: " in repr(plan)


@pytest.mark.parametrize(
    ("goal", "text"),
    [
        (
            "5M-params",
            "Nothing has to go for the goal 5M-params: the network has 2,944 params.\n"
            "Give a smaller goal.",
        ),
        (
            "100-channels",
            "Nothing has to go for the goal 100-channels: the network has 100 channels that may "
            "go.\nGive a smaller goal.",
        ),
    ],
)
def test_a_goal_that_is_no_less_than_there_is(
    find: Callable[..., Any], goal: str, text: str
) -> None:
    found = find(chain(5, 40, 60, 4), (2, 5))
    assert message(LevelError, lambda: planned(found, read_goal(goal))) == text


def test_a_goal_that_cannot_be_reached_names_the_smallest(find: Callable[..., Any]) -> None:
    found = find(chain(5, 40, 60, 4), (2, 5))
    text = message(LevelError, lambda: planned(found, read_goal("1-params"), min_channels=9))
    assert text.startswith("The goal 1-params cannot be reached: at most ")
    smallest = text.rpartition("Ask for ")[2].removesuffix(" or more.")
    plan = planned(found, read_goal(smallest), min_channels=9)
    assert plan.after.params == read_goal(smallest).number


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"min_channels": 0}, "min_channels is 0, not a whole number of at least 1.\nGive how many "
         "channels every layer keeps, as 2."),
        ({"round_to": 0}, "round_to is 0, not a whole number of at least 1.\nGive what widths"),
        ({"round_to": 8.0}, "round_to is 8.0, not a whole number"),
        ({"max_level": 0}, "max_level is 0, not a percentage above 0, and of at most 100.\nGive"),
        ({"max_level": float("nan")}, "max_level is nan, not a percentage"),
        ({"max_level": True}, "max_level is True, not a percentage"),
        ({"scope": "groups"}, "Unknown scope 'groups'. Did you mean 'group'?"),
        ({"layers": ["a"]}, "layers is ['a'].\nGive patterns with limits: {'stem*': 'keep', "),
        ({"layers": {"a": "kep"}}, "The limit of 'a' is 'kep'.\nGive patterns with limits"),
        ({"layers": {"a": {"min_channel": 3}}}, "Unknown limit 'min_channel'. Did you mean"),
        ({"layers": {"a": {"min_channels": 0}}}, "min_channels of 'a' is 0, not a whole number"),
    ],
)  # fmt: skip
def test_what_is_no_limit(limits: dict[str, Any], text: str) -> None:
    assert message(UsageError, lambda: Limits(**limits)).startswith(text)
