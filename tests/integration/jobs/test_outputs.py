"""A network with some of its outputs alone returns what the original does at these places."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import Tensor, nn

import prunecore
from prunecore.strategies.outputs import with_outputs

from ..networks import network

PLACES = [1, 4, 7]


def cut(model: nn.Module, *shape: int, count: int = 10) -> nn.Module:
    """A network with three of its outputs."""
    traced = prunecore.trace(model, input_shape=shape)
    return with_outputs(traced, PLACES, count, "net")[1]


def check(model: nn.Module, *shape: int) -> nn.Module:
    """What is left is what the original returns, in float64, for gradients too."""
    smaller = cut(model, *shape)
    images = torch.randn(3, *shape, dtype=torch.float64)
    expected = copy.deepcopy(model).eval().double()(images)[:, PLACES]
    actual = copy.deepcopy(smaller).eval().double()(images)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)
    assert smaller.training == model.training
    return smaller


class Convolved(nn.Module):
    """A classifier that is a convolution, as SqueezeNet's is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.classifier = nn.Conv2d(6, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.conv(x).relu()).mean((2, 3))


@pytest.mark.parametrize("training", [False, True])
def test_a_linear_classifier_is_cut(training: bool) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 10))
    smaller = check(model.train(training), 3, 2, 2)
    assert [p.shape[0] for p in smaller.parameters()] == [8, 8, 3, 3]


def test_a_convolution_is_cut() -> None:
    smaller = check(Convolved(), 3, 8, 8)
    assert smaller.get_parameter("classifier.weight").shape == (3, 6, 1, 1)


@pytest.mark.parametrize(
    "name",
    ["resnet20_plain_a", "mobilenet_v2_cifar", "squeezenet_cifar", "vit_cifar", "swin_cifar"],
)
def test_families_are_cut_and_pruned(name: str) -> None:
    model, shape = network(name), (3, 32, 32)
    smaller = check(model, *shape)
    small = prunecore.prune(smaller, input_shape=shape, level=40)
    assert small.model.eval()(torch.rand(2, *shape)).shape == (2, 3)


def test_auxiliary_heads_are_cut_as_well() -> None:
    model = torchvision.models.googlenet(num_classes=10, init_weights=False).eval()
    smaller = check(model, 3, 64, 64)
    for head in ("fc", "aux1.fc2", "aux2.fc2"):
        assert smaller.get_parameter(f"{head}.weight").shape[0] == 3


def test_frozen_parameters_stay_frozen() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8).requires_grad_(False), nn.Linear(8, 10))
    smaller = check(model, 3, 2, 2)
    assert [p.requires_grad for p in smaller.parameters()] == [False, False, True, True]


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.LogSoftmax(1), nn.LayerNorm(10)])
def test_classes_that_are_mixed_afterwards_stay(last: nn.Module) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 10), last)
    with pytest.raises(prunecore.PrunecoreError, match="cannot be parted"):
        cut(model, 3, 2, 2)


def test_outputs_of_another_width_are_told() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 9))
    with pytest.raises(prunecore.UsageError, match="returns no scores of 10 classes"):
        cut(model, 3, 2, 2)


def test_outputs_that_are_added_to_an_input_stay() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(10, 10)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.fc(x)

    with pytest.raises(prunecore.PrunecoreError):
        cut(Residual(), 10)


def test_outputs_that_the_network_reads_itself_are_refused() -> None:
    class Fed(nn.Module):
        """Its scores go on into another layer, which then reads fewer of them."""

        def __init__(self) -> None:
            super().__init__()
            self.fc, self.more = nn.Linear(6, 10), nn.Linear(10, 4)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            scores = self.fc(x)
            return scores, self.more(scores)

    model = Fed().double()
    with pytest.raises(prunecore.PrunecoreError):
        cut(model, 6)
