from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

import prunecore
from prunecore import UsageError
from prunecore.plugins.loading import load
from prunecore_resnet import basic_block, bottleneck


def block_class() -> type[nn.Module]:
    """A residual block class of its own for each test: decorating leaves a trace in the plugin."""

    class Block(nn.Module):
        def __init__(self, in_channels: int = 8, out_channels: int = 8) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
            self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
            self.downsample = None
            if in_channels != out_channels:
                self.downsample = nn.Conv2d(in_channels, out_channels, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            identity = x if self.downsample is None else self.downsample(x)
            return torch.relu(self.conv2(torch.relu(self.conv1(x))) + identity)

    return Block


def network(block: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), block(8, 8), block(8, 16), nn.Conv2d(16, 4, 1)
    )


@pytest.mark.parametrize("decorator", [basic_block, bottleneck])
def test_a_decorated_class_is_the_family_s_and_otherwise_itself(decorator):
    plain = block_class()
    before = dict(vars(plain))
    decorated = decorator(lType="residual", convs=["conv1", "conv2"])(plain)
    assert decorated is plain
    assert dict(vars(plain)) == before
    assert load().owner(plain).name == "resnet"


def test_a_class_that_only_constructs_a_decorated_one_is_the_family_s():
    decorated = basic_block(convs=["conv1", "conv2"])(block_class())

    class Wide(decorated):
        def __init__(self, in_channels: int, out_channels: int) -> None:
            super().__init__(in_channels, out_channels)

    class Other(decorated):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.conv1(x)

    plugins = load()
    assert plugins.owner(Wide).name == "resnet"
    assert plugins.owner(Other) is None
    assert prunecore.prune(network(Wide), level=30, input_shape=(3, 8, 8)).report["verified"]


def test_decorating_changes_nothing_in_what_is_written():
    plain, decorated = block_class(), basic_block(convs=["conv1", "conv2"])(block_class())
    sources = [
        prunecore.prune(network(b), level=40, input_shape=(3, 8, 8)).source
        for b in (plain, decorated)
    ]
    assert sources[0] == sources[1]
    assert "identity = x if self.downsample is None else self.downsample(x)" in sources[0]


def test_one_class_serves_two_networks():
    decorated = basic_block(convs=["conv1", "conv2"], downsampling=["downsample"])(block_class())
    first = prunecore.prune(network(decorated), level=30, input_shape=(3, 8, 8))
    second = prunecore.prune(network(decorated), level=60, input_shape=(3, 8, 8))
    again = prunecore.prune(network(decorated), level=30, input_shape=(3, 8, 8))
    assert first.source == again.source != second.source


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        ({"convs": ["conv1", "conv3"]}, "names 'conv3'"),
        ({"convs": ["conv1"], "downsampling": ["down_sample"]}, "Did you mean 'downsample'?"),
    ],
)
def test_a_name_that_the_class_does_not_have_is_told_at_the_first_use(names, hint):
    decorated = basic_block(**names)(block_class())
    with pytest.raises(UsageError) as caught:
        prunecore.prune(
            nn.Sequential(nn.Conv2d(3, 4, 1), decorated(4, 8)), level=30, input_shape=(3, 8, 8)
        )
    assert hint in str(caught.value)
    assert "Its children: conv1, conv2, downsample." in str(caught.value)


@pytest.mark.parametrize("convs", ["conv1", [1, 2]])
def test_names_are_a_list_of_texts(convs):
    with pytest.raises(UsageError, match="not a list of attribute names"):
        basic_block(convs=convs)


def test_only_module_classes_are_decorated():
    with pytest.raises(UsageError, match=r"not a torch\.nn\.Module class"):
        bottleneck(convs=["conv1"])(lambda x: x)


def test_a_decorated_class_with_a_forward_of_its_own_is_not_torchvision_s():
    @basic_block(convs=["conv1", "conv2"])
    class Halved(BasicBlock):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * 0.5

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Halved(8, 8), nn.Conv2d(8, 4, 1))
    small = prunecore.prune(model, level=30, input_shape=(3, 8, 8))
    assert small.report["verified"]
    assert "* 0.5" in small.source
