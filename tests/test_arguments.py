"""What is given in the place of something else is told in two lines, whichever argument it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import prunecore
from prunecore import Calibration, Limits, PrunecoreError, Scoring, UsageError
from prunecore.errors import InputShapeError

pytestmark = pytest.mark.usefixtures("toys_installed")

X = torch.rand(2, 4)
IMAGES = torch.rand(8, 4)


def net(width: int = 8) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))


WRONG: dict[str, Callable[[], Any]] = {
    "inputs": lambda: prunecore.prune(net(), X.numpy(), 50),
    "inputs of NaN": lambda: prunecore.prune(net(), X * torch.nan, 50),
    "level": lambda: prunecore.prune(net(), X, "50"),
    "level of NaN": lambda: prunecore.prune(net(), X, float("nan")),
    "a flag as level": lambda: prunecore.prune(net(), X, True),
    "to": lambda: prunecore.prune(net(), X, to=5),
    "mode": lambda: prunecore.prune(net(), X, 50, mode=3),
    "latency of a size": lambda: prunecore.prune(net(), X, 50, latency="board.json"),
    "target": lambda: prunecore.prune(net(), X, 50, target=3),
    "seed": lambda: prunecore.prune(net(), X, 50, mode="random", seed=-1),
    "seed of text": lambda: prunecore.trace(net(), X).scores("random", "a"),
    "limits": lambda: prunecore.prune(net(), X, 50, limits="group"),
    "scoring": lambda: prunecore.prune(net(), X, 50, scoring="mean"),
    "name": lambda: prunecore.prune(net(), X, 50, name=3),
    "drop": lambda: prunecore.prune(net(), X, 50, drop=[3]),
    "recover": lambda: prunecore.prune(net(), X, 50, recover=3),
    "none and more": lambda: prunecore.prune(net(), X, 50, recover=("none", "data-free")),
    "kwargs": lambda: prunecore.prune(net(), X, 50, example_kwargs=3),
    "steps": lambda: prunecore.prune(net(), X, 50, steps="2"),
    "on_step": lambda: prunecore.prune(net(), X, 50, steps=2, on_step=3),
    "calibration": lambda: prunecore.prune(net(), X, 50, calibration=3),
    "one image": lambda: prunecore.trace(net(), X, calibration=IMAGES[:1]),
    "size": lambda: prunecore.trace(net(), X, calibration=Calibration(IMAGES, size=12)),
    "mean": lambda: prunecore.trace(net(), X, calibration=Calibration(IMAGES, mean="a")),
    "std": lambda: prunecore.trace(net(), X, calibration=Calibration(IMAGES, std=1)),
    "images' seed": lambda: prunecore.trace(net(), X, calibration=Calibration(IMAGES, seed="x")),
    "scores": lambda: prunecore.trace(net(), X).plan(50, scores="magnitude"),
    "too few scores": lambda: prunecore.trace(net(), X).plan(50, scores=np.ones(3)),
    "another's plan": lambda: prunecore.trace(net(), X).prune(prunecore.trace(net(9), X).plan(30)),
    "path": lambda: prunecore.prune(net(), X, 50).save(3),
    "members": lambda: Scoring(members=3),
    "reduction": lambda: Scoring(reduce=3),
    "scope": lambda: Limits(scope=3),
    "remove_blocks": lambda: Limits(remove_blocks="x"),
    "max_level": lambda: Limits(max_level="x"),
    "layers": lambda: Limits(layers=3),
    "file": lambda: prunecore.verify(3, net()),
    "original": lambda: prunecore.verify("none.py", 3),
    "skip": lambda: prunecore.skip(layers=3),
    "regularizer": lambda: prunecore.regularizer(net(), X.numpy()),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_given_is_checked(case: str) -> None:
    with pytest.raises(PrunecoreError) as caught:
        WRONG[case]()
    assert isinstance(caught.value, UsageError)
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize("level", [np.int64(30), np.float32(30), np.float64(30)])
def test_numbers_of_numpy_are_levels(level: Any) -> None:
    assert prunecore.prune(net(), X, level).report["level"]["asked"] == 30


def test_examples_without_a_batch_are_said_to_have_one_on_axis_0() -> None:
    with pytest.raises(InputShapeError) as caught:
        prunecore.prune(net(), X[0], 50)
    assert str(caught.value).endswith("these are of shape (4,), and axis 0 is the batch.")


def test_no_recovery_has_two_names() -> None:
    for recover in ([], "none", ["none"]):
        traced = prunecore.trace(net(), X, calibration=IMAGES)
        assert traced.prune(30, mode="magnitude", recover=recover).report["recovered"] == []


def test_a_goal_far_below_the_least_is_not_met() -> None:
    traced = prunecore.trace(net(64), X)
    least = traced.plan(97, limits=Limits(min_channels=1)).after.params
    with pytest.raises(prunecore.LevelError):
        traced.plan(to=f"{least // 3}-params", limits=Limits(min_channels=1))


def test_reading_batches_leaves_random_states_as_they_are() -> None:
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.rand(32, 4)), batch_size=8, shuffle=True
    )
    network = net()
    before = torch.get_rng_state()
    first, second = (prunecore.trace(network, X, calibration=loader).images for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert first is not None
    assert second is not None
    assert first.tensor.equal(second.tensor)
