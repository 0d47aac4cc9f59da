"""Scores: what they are, exactly, and that they are the same everywhere."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunecore.channels.dependencies import merge
from prunecore.channels.records import Records
from prunecore.criteria.criterion import ScoringContext
from prunecore.criteria.magnitude import l1_norm
from prunecore.criteria.random import random, random_weighted
from prunecore.criteria.scoring import Scoring
from prunecore.planning.plan import make_plan

from .. import toy

PLAIN = Scoring(normalize="none")


def seeded(found: Any, seed: int) -> ScoringContext:
    return ScoringContext(found, found.tensors, seed)


def score(found: Any) -> Any:
    return l1_norm(ScoringContext(found, found.tensors, 0, scoring=PLAIN))


def test_a_filter_scores_its_mean_absolute_weight(find: Callable[..., Any]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1))
    found = find(model, (2, 3, 5, 5))
    scores = score(found)
    assert scores.dtype == np.float64
    expected = [*model[0].weight.abs().mean((1, 2, 3)), *model[1].weight.abs().mean((1, 2, 3))]
    np.testing.assert_allclose(scores, torch.stack(expected).detach().numpy(), rtol=1e-6)


def test_biases_and_norms_do_not_count(find: Callable[..., Any]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    found = find(model, (2, 3, 2, 2))
    before = score(found)
    with torch.no_grad():
        model[0].bias.fill_(100)
        model[1].weight.fill_(100)
    np.testing.assert_array_equal(before, score(found))


def test_layers_of_different_fan_in_compare(find: Callable[..., Any]) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 100), nn.Linear(100, 2))
    with torch.no_grad():
        for layer in model:
            layer.weight.fill_(0.5)
    np.testing.assert_allclose(score(find(model, (2, 3))), 0.5)


class Coupled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.a(x) + self.b(x))


def test_members_of_a_coupled_channel_are_averaged(find: Callable[..., Any]) -> None:
    model = Coupled()
    with torch.no_grad():
        model.a.weight.copy_(torch.tensor([[1.0, -3.0], [0.0, 4.0]]))
        model.b.weight.copy_(torch.tensor([[6.0, 6.0], [-1.0, 1.0]]))
        model.c.weight.fill_(-0.25)
    assert score(find(model, (2, 2))).tolist() == [4.0, 1.5, 0.25, 0.25]


def test_a_layer_that_makes_a_channel_twice_counts_twice(find: Callable[..., Any]) -> None:
    class Shuffled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(1, 4), nn.Linear(2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x).view(-1, 2, 2).sum(2))

    model = Shuffled()
    with torch.no_grad():
        model.a.weight.copy_(torch.tensor([[1.0], [2.0], [5.0], [10.0]]))
    assert score(find(model, (2, 1)))[:2].tolist() == [1.5, 7.5]


def test_places_that_always_stay_score_nothing(find: Callable[..., Any]) -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(2, 2), nn.Linear(2, 4), nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(torch.cat([x, self.a(x)], 1) + self.b(x))

    model = Fixed()
    with torch.no_grad():
        model.a.weight.fill_(1)
        model.b.weight.copy_(torch.tensor([[9.0], [9.0], [2.0], [4.0]]).expand(4, 2))
    found = find(model, (2, 2))
    made = found.axes[found.layers["a"]]
    assert score(found)[made].tolist() == [1.5, 2.5]


def test_filters_that_lie_along_another_axis(find: Callable[..., Any], toys: Any) -> None:
    layer = toy.Dense(2, 3)
    records = Records(count=2)
    records.forwards.visits[""] = []
    records.bindings[id(layer.weight), 1] = np.array([0, 1])
    records.filters[id(layer.weight), 1] = ""
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0], [-1.0, 4.0], [4.0, 0.0]]))
    assert score(merge(layer, records)).tolist() == [2.0, 2.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_added_up_exactly(find: Callable[..., Any], dtype: torch.dtype) -> None:
    """A sum of 100,000 halves would stop at 2048 or 256 in its own type."""
    model = nn.Sequential(nn.Linear(100_000, 2), nn.Linear(2, 1)).to(dtype)
    with torch.no_grad():
        model[0].weight.fill_(0.5)
        model[0].weight[0, 0] = 3
    scores = score(find(model, (2, 100_000)))
    np.testing.assert_allclose(scores[:2], [0.5 + 2.5e-5, 0.5], rtol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_scores_are_the_same_bytes_for_any_number_of_threads(
    find: Callable[..., Any], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 2000, 3), nn.Conv2d(2000, 2, 1))
    found = find(model.to(dtype), (2, 3, 8, 8))
    once = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            once.append(score(found).tobytes())
    finally:
        torch.set_num_threads(1)
    assert once[0] == once[1] == once[2]


def test_a_network_without_filters_has_no_scores(find: Callable[..., Any]) -> None:
    assert score(find(nn.ReLU(), (2, 3))).tolist() == []


def test_the_example_of_a_criterion_scores_by_the_largest_weight(
    find: Callable[..., Any],
) -> None:
    _, _, example = inspect.cleandoc(ScoringContext.__doc__ or "").partition("```python\n")
    names: dict[str, Any] = {}
    exec(inspect.cleandoc(example.partition("```")[0]), names)
    model = Coupled()
    with torch.no_grad():
        model.a.weight.copy_(torch.tensor([[1.0, -3.0], [0.0, 4.0]]))
        model.b.weight.copy_(torch.tensor([[6.0, 6.0], [-1.0, 1.0]]))
        model.c.weight.fill_(-0.25)
    found = find(model, (2, 2))
    criterion = names["prunecore_criteria"]()["largest-weight"]
    assert criterion(seeded(found, 0)).tolist() == [6.0, 4.0, 0.25, 0.25]


def test_random_scores_depend_on_the_seed_alone(find: Callable[..., Any]) -> None:
    found = find(Coupled(), (2, 2))
    first, again, other = (random(seeded(found, seed)) for seed in (3, 3, 4))
    assert first.shape == (found.count,)
    assert first.tolist() == again.tolist() != other.tolist()
    assert ((first >= 0) & (first < 1)).all()


def wide(find: Callable[..., Any]) -> Any:
    return find(nn.Sequential(*(nn.Linear(64, 64) for _ in range(9)), nn.Linear(64, 4)), (2, 64))


def widths(found: Any, seed: int) -> list[int]:
    scores = random_weighted(seeded(found, seed))
    kept = make_plan(found, scores, 50).kept
    return [int(kept[found.axes[index]].sum()) for index in list(found.layers.values())[:-1]]


def test_weighted_scores_depend_on_the_seed_alone(find: Callable[..., Any]) -> None:
    found = wide(find)
    assert widths(found, 3) == widths(found, 3)
    assert len({tuple(widths(found, seed)) for seed in range(30)}) == 30


def test_weighted_scores_lean_to_either_end_or_to_none(find: Callable[..., Any]) -> None:
    found = wide(find)
    leaning = []
    for seed in range(60):
        early, late = np.split(np.array(widths(found, seed)[:8]), 2)
        leaning.append((late.sum() - early.sum()) / (late.sum() + early.sum()))
    early_heavy, late_heavy = (np.array(leaning) > 0.2).sum(), (np.array(leaning) < -0.2).sum()
    assert early_heavy >= 10
    assert late_heavy >= 10
    assert 60 - early_heavy - late_heavy >= 10


def test_layers_differ_more_in_width_than_by_plain_chance(find: Callable[..., Any]) -> None:
    found = wide(find)
    plain = make_plan(found, random(seeded(found, 0)), 50).kept
    layers = list(found.layers.values())[:-1]
    chance = np.std([plain[found.axes[index]].sum() for index in layers])
    assert np.mean([np.std(widths(found, seed)) for seed in range(20)]) > 2 * chance
