"""Plans: what level is reached, what never goes, and what is said where it cannot be reached."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunecore import LevelError, PrunecoreError
from prunecore.channels.ids import FIXED
from prunecore.planning.cost import Counter
from prunecore.planning.goal import COUNTED
from prunecore.planning.plan import make_plan
from prunecore.planning.request import Limits


def chain(*widths: int) -> nn.Sequential:
    return nn.Sequential(*(nn.Linear(a, b) for a, b in itertools.pairwise(widths)))


@pytest.fixture
def found(find: Callable[..., Any]) -> Any:
    return find(chain(5, 20, 30, 4), (2, 5))


def scores(found: Any, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random(found.count)


@pytest.mark.parametrize("target", COUNTED)
@pytest.mark.parametrize("level", [0.5, 3, 12.5, 50, 77, 90])
def test_the_achieved_level_is_the_closest_that_the_order_allows(
    found: Any, target: Any, level: float
) -> None:
    plan = make_plan(found, scores(found), level, target)
    counter = Counter(found)
    order = np.argsort(scores(found), kind="stable")
    order = [c for c in order if found.removable[c]]
    held = held_back(found, scores(found), 2)
    order = [channel for channel in order if channel not in held]
    kept = np.ones(found.count, dtype=bool)
    best = np.inf
    for number, channel in enumerate(order, start=1):
        kept[channel] = False
        if target == "channels":
            gone = 100 * number / found.removable.sum()
        else:
            gone = 100 * (1 - getattr(counter.cost(kept), target) / getattr(plan.before, target))
        best = min(best, abs(gone - level))
    assert abs(plan.achieved - level) == pytest.approx(best, abs=1e-9)
    assert plan.asked == level
    assert plan.target == target
    assert plan.after == counter.cost(plan.kept)


def held_back(found: Any, scores: Any, least: int) -> set[int]:
    """The best channels of each layer, of which it keeps at least so many."""
    held: set[int] = set()
    for index in found.layers.values():
        array = found.axes[index]
        held |= set(array[np.argsort(-scores[array], kind="stable")][:least].tolist())
    return held


def test_the_lowest_scores_go_first(found: Any) -> None:
    plan = make_plan(found, scores(found), 40)
    gone, kept = scores(found)[~plan.kept], scores(found)[plan.kept & found.removable]
    assert len(gone)
    assert gone.max() < kept.min()


def test_more_goes_at_every_higher_level(found: Any) -> None:
    plans = [make_plan(found, scores(found), level) for level in range(1, 95)]
    for lower, higher in itertools.pairwise(plans):
        assert lower.achieved <= higher.achieved
        assert not (higher.kept & ~lower.kept).any()


@pytest.mark.parametrize("least", [1, 2, 5])
def test_every_layer_keeps_its_best_channels(found: Any, least: int) -> None:
    highest = float(str(error_of(found, 99.9, least)).rpartition("level of ")[2].split(" or ")[0])
    plan = make_plan(found, scores(found), highest, limits=Limits(min_channels=least))
    for index in list(found.layers.values())[:2]:
        array = found.axes[index]
        left = array[plan.kept[array]]
        best = array[np.argsort(-scores(found)[array])][:least]
        assert sorted(left) == sorted(best)


def error_of(found: Any, level: float, least: int = 2) -> LevelError:
    with pytest.raises(LevelError) as caught:
        make_plan(found, scores(found), level, limits=Limits(min_channels=least))
    return caught.value


def test_a_layer_that_is_narrower_than_the_minimum_stays_whole(find: Callable[..., Any]) -> None:
    found = find(chain(5, 3, 20, 4), (2, 5))
    plan = make_plan(found, scores(found), 30, limits=Limits(min_channels=4))
    assert plan.kept[:3].all()


def test_equal_scores_go_in_the_order_of_the_network(found: Any) -> None:
    plan = make_plan(found, np.zeros(found.count), 20, "channels")
    gone = np.flatnonzero(~plan.kept)
    assert gone.tolist() == list(range(2, 12))  # the first two are the best, as all are


def test_at_least_one_channel_goes(found: Any) -> None:
    plan = make_plan(found, scores(found), 0.001)
    assert (~plan.kept).sum() == 1


def test_what_cannot_be_reached_is_an_error_that_says_why(found: Any) -> None:
    counter, kept = Counter(found), np.ones(found.count, dtype=bool)
    kept[found.removable] = False
    kept[list(held_back(found, scores(found), 2))] = True
    before = counter.cost(np.ones(found.count, dtype=bool)).params
    highest = 100 * (1 - counter.cost(kept).params / before)
    assert str(error_of(found, 99)) == (
        f"Level 99 cannot be reached: at most {highest:.2f} % of the params can go.\n"
        "It is held there by the minimum of 2 channels a layer. "
        f"Ask for a level of {int(highest * 100) / 100:g} or less."
    )


def test_within_a_point_of_the_highest_is_reached(found: Any) -> None:
    highest = float(str(error_of(found, 99)).rpartition("level of ")[2].split(" or ")[0])
    plan = make_plan(found, scores(found), highest + 0.9)
    assert plan.achieved == pytest.approx(highest, abs=0.01)
    error_of(found, highest + 1.1)


def test_layers_that_are_left_whole_are_named_with_their_reasons(find: Callable[..., Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.b(self.a(x).softmax(1)))

    found = find(Net(), (2, 3))
    assert "; a is left whole because softmax mixes it. " in str(error_of(found, 95))


def test_outputs_and_what_is_pinned_never_go(find: Callable[..., Any]) -> None:
    found = find(chain(3, 8, 4), (2, 3))
    highest = float(str(error_of(found, 99)).rpartition("level of ")[2].split(" or ")[0])
    plan = make_plan(found, scores(found), highest)
    assert plan.kept[found.axes[found.layers["1"]]].all()


@pytest.mark.parametrize(("least", "left"), [(1, 1), (2, 2), (3, 2), (5, 3)])
def test_channels_that_always_stay_count_towards_the_minimum(
    find: Callable[..., Any], least: int, left: int
) -> None:
    class Net(nn.Module):
        """Two of the places of the sum are the input's, two a layer's, four padding."""

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.cat([x, F.pad(self.inner(x), (0, 4))], 1) + self.a(x))

    found = find(Net(), (2, 2))
    made = found.axes[found.layers["a"]]
    assert (made == FIXED).tolist() == [True] * 2 + [False] * 6
    best_first = -np.arange(found.count, dtype=float)
    with pytest.raises(LevelError) as caught:
        make_plan(found, best_first, 99, limits=Limits(min_channels=least))
    highest = str(caught.value).rpartition("level of ")[2].split(" or ")[0]
    plan = make_plan(found, best_first, float(highest), limits=Limits(min_channels=least))
    assert plan.kept[made[2:]].sum() == left


def test_nothing_to_prune_is_an_error(find: Callable[..., Any]) -> None:
    found = find(nn.ReLU(), (2, 3))
    with pytest.raises(PrunecoreError, match="no prunable layer"):
        make_plan(found, np.zeros(0), 50)
    found = find(nn.Linear(3, 2), (2, 3))
    with pytest.raises(PrunecoreError, match="no channel that may go"):
        make_plan(found, np.zeros(found.count), 50)
