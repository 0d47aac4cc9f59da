"""Scores by weights: every criterion by hand, and every option."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunecore.criteria.criterion import Criterion, ScoringContext
from prunecore.criteria.magnitude import bn_scale, fpgm, l1_norm, l2_norm, lamp, magnitude
from prunecore.criteria.scoring import Scoring

from .. import toy


class Line(nn.Module):
    """Two channels with a norm, which one layer makes and one reads."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(2, 2), toy.Scale(2), nn.Linear(2, 1)
        with torch.no_grad():
            self.a.weight.copy_(torch.tensor([[3.0, -1.0], [0.0, 2.0]]))
            self.norm.weight.copy_(torch.tensor([-0.5, 1.0]))
            self.b.weight.copy_(torch.tensor([[6.0, -1.0]]))
            self.a.bias.fill_(100)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.norm(self.a(x)))


class Coupled(nn.Module):
    """Two channels that two layers make."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1)
        with torch.no_grad():
            self.a.weight.copy_(torch.tensor([[1.0, -3.0], [0.0, 4.0]]))
            self.b.weight.copy_(torch.tensor([[6.0, 6.0], [-1.0, 1.0]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.a(x) + self.b(x))


def scores(
    find: Callable[..., Any], model: nn.Module, criterion: Criterion, **chosen: Any
) -> list[float]:
    """Of the first layer's channels."""
    found = find(model, (2, 2))
    result = criterion(ScoringContext(found, found.tensors, 0, scoring=Scoring(**chosen)))
    assert result.shape == (found.count,)
    return [float(value) for value in result[found.axes[found.layers["a"]]]]


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        (magnitude, [(4 + 0.5 + 6) / 3, (2 + 1 + 1) / 3]),
        (l1_norm, [2, 1]),
        (l2_norm, [5**0.5, 2**0.5]),
        (bn_scale, [0.5, 1]),
        (fpgm, [3 * 2**0.5 / 2, 3 * 2**0.5 / 2]),
    ],
)
def test_a_criterion_is_what_its_formula_says(
    find: Callable[..., Any], criterion: Criterion, expected: list[float]
) -> None:
    plain = scores(find, Line(), criterion, normalize="none")
    assert plain == pytest.approx(expected)
    by_group = scores(find, Line(), criterion)
    assert by_group == pytest.approx([value / np.mean(expected) for value in expected])


def test_lamp_is_a_share_of_what_weighs_as_much_or_more(find: Callable[..., Any]) -> None:
    first, second = (10 + 0.25 + 36) / 3, (4 + 1 + 1) / 3
    expected = [1, second / (first + second)]
    assert scores(find, Line(), lamp) == pytest.approx(expected)
    by_group = [value / np.mean(expected) for value in expected]
    assert scores(find, Line(), lamp, normalize="group") == pytest.approx(by_group)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (("producers",), [4, 2]),
        (("consumers",), [6, 1]),
        (("norms",), [0.5, 1]),
        (("consumers", "producers"), [5, 1.5]),
    ],
)
def test_members_are_what_counts(
    find: Callable[..., Any], members: Any, expected: list[float]
) -> None:
    assert scores(find, Line(), magnitude, members=members, normalize="none") == expected


@pytest.mark.parametrize(
    ("reduce", "expected"),
    [("mean", [4, 1.5]), ("sum", [8, 3]), ("max", [6, 2]), ("first", [2, 2])],
)
def test_members_are_reduced(find: Callable[..., Any], reduce: Any, expected: list[float]) -> None:
    assert scores(find, Coupled(), l1_norm, reduce=reduce, normalize="none") == expected


def test_groups_compare_by_their_means(find: Callable[..., Any]) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4), nn.Linear(4, 1))
    with torch.no_grad():
        model[1].weight.mul_(1000)
    found = find(model, (2, 2))
    result = l1_norm(ScoringContext(found, found.tensors, 0))
    for layer in ("0", "1", "2"):
        assert result[found.axes[found.layers[layer]]].mean() == pytest.approx(1)


def test_a_group_of_zeros_scores_zero(find: Callable[..., Any]) -> None:
    model = Coupled()
    for layer in (model.a, model.b):
        nn.init.zeros_(layer.weight)
    assert scores(find, model, l1_norm) == [0, 0]


def test_a_channel_without_a_norm_is_scored_by_its_magnitude(find: Callable[..., Any]) -> None:
    model = Coupled()
    nn.init.ones_(model.c.weight)
    means = np.array([(2 + 6 + 1) / 3, (2 + 1 + 1) / 3])
    assert scores(find, model, bn_scale) == pytest.approx((means / means.mean()).tolist())


def test_fpgm_gives_up_what_lies_in_the_middle(find: Callable[..., Any]) -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[9.0, 9], [5, 5], [5.1, 5], [1, 1]]))
    found = find(model, (2, 2))
    result = fpgm(ScoringContext(found, found.tensors, 0))[:4]
    assert sorted(np.argsort(result)[:2].tolist()) == [1, 2]


def test_an_accelerator_is_waited_for_once_however_many_layers_there_are(
    find: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[str] = []
    for name in ("cpu", "item", "tolist", "__bool__", "__float__", "__int__"):
        monkeypatch.setattr(Tensor, name, counted(getattr(Tensor, name), waited))
    for depth in (2, 9):
        found = find(nn.Sequential(*(nn.Linear(4, 4) for _ in range(depth))), (2, 4))
        waited.clear()
        magnitude(ScoringContext(found, found.tensors, 0))
        assert waited == ["cpu"]


def counted(method: Callable[..., Any], calls: list[str]) -> Callable[..., Any]:
    def noted(*args: Any, **kwargs: Any) -> Any:
        calls.append(method.__name__)
        return method(*args, **kwargs)

    return noted
