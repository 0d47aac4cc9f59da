from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual

import prunecore
from prunecore import UsageError
from prunecore.plugins.loading import load
from prunecore.testing import check_block
from prunecore_mobilenet import mb_conv


def block_class() -> type[nn.Module]:
    """A block class of its own for each test: decorating leaves a trace in the plugin."""

    class Block(nn.Module):
        def __init__(self, in_channels: int = 8, out_channels: int = 8, stride: int = 1) -> None:
            super().__init__()
            width = 3 * in_channels
            self.expand = nn.Conv2d(in_channels, width, 1)
            self.depthwise = nn.Conv2d(width, width, 3, stride, padding=1, groups=width)
            self.project = nn.Conv2d(width, out_channels, 1)
            self.shortcut = None
            if in_channels != out_channels:
                self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            identity = x if self.shortcut is None else self.shortcut(x)
            out = torch.relu(self.depthwise(torch.relu(self.expand(x))))
            return self.project(out) + identity

    return Block


def network(block: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), block(8, 8), block(8, 16, 2), nn.Conv2d(16, 4, 1)
    )


def test_a_decorated_class_is_the_family_s_and_so_is_what_only_constructs_it():
    plain = block_class()
    decorated = mb_conv(lType="mobile", convs=["expand", "depthwise", "project"])(plain)
    assert decorated is plain
    derived = type("Derived", (decorated,), {})
    assert load().owner(plain).name == load().owner(derived).name == "mobilenet"
    check_block(derived(8, 12, 2), (8, 6, 6))


def test_decorating_changes_nothing_in_what_is_written():
    plain, decorated = block_class(), mb_conv(convs=["expand", "depthwise"])(block_class())
    sources = [
        prunecore.prune(network(b), level=40, input_shape=(3, 8, 8)).source
        for b in (plain, decorated)
    ]
    assert sources[0] == sources[1]
    assert "identity = x if self.shortcut is None else self.shortcut(x)" in sources[0]


@pytest.mark.parametrize(
    "names", [{"convs": ["expand", "deepwise"]}, {"convs": [], "downsampling": ["deepwise"]}]
)
def test_a_name_that_the_class_does_not_have_is_told_at_the_first_use(names):
    decorated = mb_conv(**names)(block_class())
    with pytest.raises(UsageError) as caught:
        prunecore.prune(network(decorated), level=30, input_shape=(3, 8, 8))
    assert str(caught.value) == (
        "@mb_conv on Block names 'deepwise', which the class does not have. "
        "Did you mean 'depthwise'?\nIts children: expand, depthwise, project."
    )


def test_a_decorated_class_with_a_forward_of_its_own_is_not_torchvision_s():
    @mb_conv(convs=["conv"])
    class Halved(InvertedResidual):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * 0.5

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), Halved(8, 8, 1, 2), nn.Conv2d(8, 4, 1))
    small = prunecore.prune(model, level=30, input_shape=(3, 8, 8))
    assert small.report["verified"]
    assert "* 0.5" in small.source
