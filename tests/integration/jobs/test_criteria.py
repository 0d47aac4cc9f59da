"""Criteria on networks of torch's layers, as users ask for them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import prunecore
from prunecore.errors import UsageError

SHAPE = (3, 8, 8)
READ_IMAGES = ["activation", "fisher", "reconstruction", "surgeon", "taylor"]


class Network(nn.Module):
    """A residual sum, groups, a transposed convolution, and channels at several places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.inner = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.fc = nn.Linear(6 * 16 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.inner(x).relu()
        return self.fc(self.up(self.deep(x)).relu().flatten(1))


@pytest.fixture
def model() -> Network:
    torch.manual_seed(0)
    return Network().train()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(24, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mode", READ_IMAGES)
def test_what_reads_images_leaves_the_network_as_it_was(
    model: Network, images: Tensor, mode: str
) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    traced = prunecore.trace(model, input_shape=SHAPE, calibration=images)
    scores = traced.scores(mode)
    assert np.isfinite(scores).all()
    assert (scores[traced.dependencies.removable] > 0).all()
    assert scores.tolist() == traced.scores(mode).tolist()
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())
    small = traced.prune(traced.plan(30, scores=scores), mode=mode)
    assert small.report["verified"]


@pytest.mark.parametrize("is_made_there", [False, True])
@pytest.mark.parametrize("mode", ["surgeon", "fisher"])
def test_gradients_are_followed_in_the_caller_s_inference_mode(
    model: Network, images: Tensor, mode: str, is_made_there: bool
) -> None:
    expected = prunecore.trace(model, input_shape=SHAPE, calibration=images).scores(mode)
    with torch.inference_mode():
        if is_made_there:
            model, images = copy.deepcopy(model), images.clone()
        traced = prunecore.trace(model, input_shape=SHAPE, calibration=images)
        np.testing.assert_array_equal(traced.scores(mode), expected)
        small = traced.prune(30, mode=mode)
        assert small.report["recovered"][0]["images"] == 21
        assert torch.is_inference_mode_enabled()
    small.model(torch.zeros(1, *SHAPE)).sum().backward()  # it can be trained


@pytest.mark.parametrize("mode", ["surgeon", "taylor"])
def test_a_network_that_passes_no_gradients_on(images: Tensor, mode: str) -> None:
    class Still(Network):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return super().forward(x)

    with pytest.raises(UsageError, match=f"Mode '{mode}' follows gradients through the network"):
        prunecore.prune(Still(), level=30, input_shape=SHAPE, mode=mode, calibration=images)


@pytest.mark.parametrize("mode", READ_IMAGES)
def test_without_images_nothing_is_scored(model: Network, mode: str) -> None:
    with pytest.raises(UsageError, match=f"Mode '{mode}' reads images, and none are given"):
        prunecore.prune(model, level=30, input_shape=SHAPE, mode=mode)


def test_a_repeated_channel_of_a_convolution_costs_nothing() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1), nn.Flatten()
    )
    with torch.no_grad():
        model[0].weight[3], model[0].bias[3] = model[0].weight[1], model[0].bias[1]
    traced = prunecore.trace(model, input_shape=SHAPE, calibration=torch.randn(64, *SHAPE))
    scores = traced.scores("reconstruction", scoring=prunecore.Scoring(normalize="none"))
    made = scores[traced.dependencies.axes[traced.dependencies.layers["0"]]]
    assert made[[1, 3]].max() < 2e-3
    assert made[[0, 2]].min() > 0.02


def test_scoring_reaches_the_plan(model: Network) -> None:
    plain, by_group = (
        prunecore.prune(
            model,
            level=30,
            input_shape=SHAPE,
            mode="l1-norm",
            scoring=prunecore.Scoring(normalize=how),
            verify=False,
        ).plan.kept
        for how in ("none", "group")
    )
    assert not np.array_equal(plain, by_group)
