from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.squeezenet import Fire

import prunecore
from prunecore import UsageError
from prunecore.plugins.loading import load
from prunecore_squeezenet import fire


def block_class() -> type[nn.Module]:
    """A fire module class of its own for each test: decorating leaves a trace in the plugin."""

    class Bypassed(nn.Module):
        """As in the SqueezeNet paper: with a norm, and a shortcut around all."""

        def __init__(self, in_channels: int, squeeze: int, expand: int) -> None:
            super().__init__()
            self.squeeze = nn.Conv2d(in_channels, squeeze, 1)
            self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
            self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
            self.norm = nn.BatchNorm2d(2 * expand)
            self.shortcut = None
            if in_channels != 2 * expand:
                self.shortcut = nn.Conv2d(in_channels, 2 * expand, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            identity = x if self.shortcut is None else self.shortcut(x)
            x = torch.relu(self.squeeze(x))
            x = torch.cat([self.expand1x1(x), self.expand3x3(x)], 1)
            return torch.relu(self.norm(x) + identity)

    return Bypassed


def network(block: type[nn.Module]) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        block(32, 8, 16),
        block(32, 8, 32),
        nn.MaxPool2d(2),
        block(64, 16, 32),
        block(64, 24, 48),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(96, 10),
    )


def decorated() -> type[nn.Module]:
    convs = ["squeeze", "expand1x1", "expand3x3"]
    return fire(lType="fire", convs=convs, downsampling=["shortcut"])(block_class())


def test_a_decorated_class_is_the_family_s_and_otherwise_itself():
    plain = block_class()
    before = dict(vars(plain))
    block = fire(convs=["squeeze"])(plain)
    assert block is plain
    assert dict(vars(plain)) == before
    assert load().owner(plain).name == "squeezenet"


@pytest.mark.parametrize("mode", ["random", "l1-norm"])
@pytest.mark.parametrize("level", [30, 60, 80, 85, 90])
def test_a_cifar_network_is_exact(level, mode, varied, check, check_style, classes, is_reached):
    block = decorated()
    model = varied(network(block))
    small = prunecore.prune(
        model, level=level, input_shape=(3, 32, 32), mode=mode, name="cifar_net"
    )
    assert is_reached(small)
    check(model, small, (3, 32, 32))
    check_style(small.source)
    assert classes(small.source) == ["Bypassed", "CifarNet"]


def test_a_sum_with_what_was_concatenated_loses_its_channels_at_both_places(varied):
    small = prunecore.prune(
        varied(network(decorated())), level=60, input_shape=(3, 32, 32), mode="random"
    )
    (entering,) = {
        tuple(small.report["kept"][name][0])
        for name in ("0.weight", "0.bias", "1.norm.weight", "1.norm.running_mean")
    }
    expand1x1, expand3x3 = (
        small.report["kept"][f"1.expand{kernel}.weight"][0] for kernel in ("1x1", "3x3")
    )
    assert list(entering) == [*expand1x1, *(16 + index for index in expand3x3)]


def test_decorating_changes_nothing_in_what_is_written(varied):
    sources = []
    for block in (block_class(), decorated()):
        torch.manual_seed(0)
        sources.append(
            prunecore.prune(varied(network(block)), level=40, input_shape=(3, 16, 16)).source
        )
    assert sources[0] == sources[1]
    assert "identity = x if self.shortcut is None else self.shortcut(x)" in sources[0]


def test_a_decorated_class_with_a_forward_of_its_own_is_not_taken_for_torchvision_s(varied):
    @fire(convs=["squeeze", "expand1x1", "expand3x3"])
    class Sum(Fire):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.squeeze_activation(self.squeeze(x))
            return self.expand1x1(x) * self.expand3x3(x)

    model = varied(nn.Sequential(Sum(3, 8, 16, 16), nn.Conv2d(16, 4, 1)))
    small = prunecore.prune(model, level=40, input_shape=(3, 8, 8), mode="random")
    assert small.report["verified"]
    assert "torch.cat" not in small.source


def test_a_name_that_the_class_does_not_have_is_told_at_the_first_use():
    block = fire(convs=["squeeze", "expand3x4"])(block_class())
    with pytest.raises(UsageError, match=r"@fire on Bypassed names 'expand3x4'.*'expand3x3'"):
        prunecore.prune(network(block), level=30, input_shape=(3, 16, 16))
