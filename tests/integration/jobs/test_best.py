"""Mode best keeps the network that agrees most with its original, and tells what it tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prunecore
from prunecore.errors import LevelError, UsageError
from prunecore.strategies.best import _chosen


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 12, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5),
    ).eval()  # fmt: skip


def images(number: int = 48) -> Tensor:
    return torch.randn(number, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def prune(model: nn.Module, **asked: Any) -> prunecore.PrunedModel:
    return prunecore.prune(model, level=50, input_shape=(3, 8, 8), mode="best", **asked)


def test_the_winner_agrees_most_and_is_proven(model: nn.Module, tmp_path: Path) -> None:
    small = prune(model, calibration=images(), name="net")
    tried = small.report["tried"]
    assert len({(one["mode"], one["scope"]) for one in tried}) == len(tried) == 10
    first = next(one for one in tried if one["mode"] == small.report["mode"])
    assert all(one["top1"] <= first["top1"] + 0.3 for one in tried)
    assert (small.report["mode"], small.report["scope"]) == (first["mode"], first["scope"])
    file = tmp_path / "net_50.py"
    small.save(file)
    assert prunecore.verify(file, model).max_relative_difference <= 1e-9
    alone = prunecore.prune(
        model,
        level=50,
        input_shape=(3, 8, 8),
        calibration=images(),
        mode=first["mode"],
        limits=prunecore.Limits(scope=first["scope"]),
        name="net",
    )
    assert all(alone.weights[name].equal(tensor) for name, tensor in small.weights.items())


def test_without_images_nothing_can_be_compared(model: nn.Module) -> None:
    with pytest.raises(UsageError, match="and no images are given"):
        prune(model)


def test_without_recovery_nothing_is_compared(model: nn.Module) -> None:
    with pytest.raises(UsageError, match="and none is asked for"):
        prune(model, calibration=images(), recover=[])


def test_what_none_reaches_is_told(model: nn.Module) -> None:
    with pytest.raises(LevelError, match="at most"):
        prune(model, calibration=images(), limits=prunecore.Limits(max_level=10))


def test_none_of_many_is_trained(model: nn.Module) -> None:
    with pytest.raises(UsageError, match="Give a single mode"):
        prune(model, calibration=images(), steps=2, on_step=lambda small, step: None)


def test_what_is_best_most_often_wins_unless_another_is_clearly_better() -> None:
    def tried(*shares: float | None) -> list[dict[str, Any]]:
        return [{"top1": share, "error": 1 / (number + 1)} for number, share in enumerate(shares)]

    assert _chosen(tried(0.993, 1.0), 128) == 0
    assert _chosen(tried(0.9, 0.92, 1.0), 128) == 2
    assert _chosen(tried(0.9, 1.0, 1.0), 128) == 1
    assert _chosen(tried(None, None), 128) == 1
