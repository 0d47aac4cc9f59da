from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.googlenet import Inception

import prunecore
from prunecore import UsageError
from prunecore.plugins.loading import load
from prunecore_googlenet import inception

CONVS = ["one", "reduce", "three", "project"]


def block_class() -> type[nn.Module]:
    """A block class of its own for each test: decorating leaves a trace in the plugin."""

    class Branches(nn.Module):
        def __init__(self, in_channels: int, one: int, reduce: int, three: int, pool: int) -> None:
            super().__init__()
            self.one = nn.Conv2d(in_channels, one, 1)
            self.reduce = nn.Conv2d(in_channels, reduce, 1)
            self.three = nn.Conv2d(reduce, three, 3, padding=1)
            self.pool = nn.MaxPool2d(3, stride=1, padding=1)
            self.project = nn.Conv2d(in_channels, pool, 1)
            self.norm = nn.BatchNorm2d(one + three + pool)

        def forward(self, x: Tensor) -> Tensor:
            three = self.three(torch.relu(self.reduce(x)))
            pool = self.project(self.pool(x))
            return torch.relu(self.norm(torch.cat([self.one(x), three, pool], 1)))

    return Branches


def network(block: type[nn.Module]) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        block(32, 16, 16, 24, 8),
        nn.MaxPool2d(2),
        block(48, 24, 24, 32, 16),
        block(72, 32, 24, 48, 16),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(96, 10),
    )


def test_a_decorated_class_is_the_family_s_and_otherwise_itself():
    plain = block_class()
    before = dict(vars(plain))
    block = inception(lType="inception", convs=CONVS)(plain)
    assert block is plain
    assert dict(vars(plain)) == before
    assert load().owner(plain).name == "googlenet"


@pytest.mark.parametrize("mode", ["random", "l1-norm"])
@pytest.mark.parametrize("level", [30, 60, 80, 85, 90, 95])
def test_a_cifar_network_is_exact(level, mode, varied, check, check_style, classes, is_reached):
    model = varied(network(inception(convs=CONVS)(block_class())))
    small = prunecore.prune(
        model, level=level, input_shape=(3, 32, 32), mode=mode, name="cifar_net"
    )
    assert is_reached(small)
    check(model, small, (3, 32, 32))
    check_style(small.source)
    assert classes(small.source) == ["Branches", "CifarNet"]


def test_branches_are_called_as_in_the_forward(varied):
    block = inception(convs=CONVS)(block_class())
    small = prunecore.prune(
        varied(network(block)), level=50, input_shape=(3, 16, 16), mode="random"
    )
    forward = """
        three = torch.relu(self.reduce(x))
        three = self.three(three)
        pool = self.pool(x)
        pool = self.project(pool)
        one = self.one(x)
        return torch.relu(self.norm(torch.cat([one, three, pool], 1)))
"""
    assert forward in small.source


def test_a_decorated_class_with_a_forward_of_its_own_is_not_taken_for_torchvision_s(varied):
    @inception(convs=["branch1"])
    class Swapped(Inception):
        def _forward(self, x: Tensor) -> list[Tensor]:
            return super()._forward(x)[::-1]

    model = varied(nn.Sequential(Swapped(3, 4, 5, 6, 7, 8, 9), nn.Conv2d(27, 4, 1)))
    small = prunecore.prune(model, level=40, input_shape=(3, 8, 8), mode="random")
    assert small.report["verified"]
    assert "torch.cat([branch4, branch3, branch2, branch1], 1)" in small.source


def test_a_name_that_the_class_does_not_have_is_told_at_the_first_use():
    block = inception(convs=["one", "thre"])(block_class())
    with pytest.raises(UsageError, match=r"@inception on Branches names 'thre'.*'three'"):
        prunecore.prune(network(block), level=30, input_shape=(3, 16, 16))
