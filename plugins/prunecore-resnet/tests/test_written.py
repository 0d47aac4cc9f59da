"""The classes that stand in written files, by themselves: at full width they are torchvision's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import resnet

from prunecore_resnet.written import BasicBlock, Bottleneck, GroupedBottleneck


def shortcut(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 1, 2, bias=False), nn.BatchNorm2d(width))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (BasicBlock(8, 8, 8), resnet.BasicBlock(8, 8)),
        (
            BasicBlock(8, 12, 12, stride=2, downsample=True),
            resnet.BasicBlock(8, 12, 2, shortcut(8, 12)),
        ),
        (Bottleneck(16, 4, 4, 16), resnet.Bottleneck(16, 4)),
        (
            Bottleneck(8, 4, 4, 16, stride=2, downsample=True),
            resnet.Bottleneck(8, 4, 2, shortcut(8, 16)),
        ),
        (GroupedBottleneck(16, 4, 4, 16, 2), resnet.Bottleneck(16, 4, groups=2, base_width=32)),
    ],
)
def test_a_written_class_computes_what_torchvision_s_does(ours: nn.Module, theirs: nn.Module):
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, theirs.conv1.in_channels, 6, 6)
    for training in (False, True):
        assert torch.equal(ours.train(training)(x), theirs.train(training)(x))
