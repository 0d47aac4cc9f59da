from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.ops.misc import SqueezeExcitation

import prunecore
from prunecore.testing import check_block


def network(*blocks: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), *blocks, nn.Conv2d(12, 4, 1))


def test_it_is_written_with_its_own_activations(classes):
    usual, mobile = SqueezeExcitation(12, 5), SqueezeExcitation(12, 7, nn.SiLU, nn.Hardsigmoid)
    check_block(usual, (12, 4, 4))
    check_block(mobile, (12, 4, 4))
    small = prunecore.prune(
        network(usual, mobile, SqueezeExcitation(12, 3)), level=30, input_shape=(3, 6, 6)
    )
    assert small.report["verified"]
    assert classes(small.source) == ["SqueezeExcitation", "SqueezeExcitation2", "Sequential"]
    scales = [type(block.scale_activation) for block in list(small.model)[1:4]]
    assert scales == [nn.Sigmoid, nn.Hardsigmoid, nn.Sigmoid]
    assert "def forward(self, x: Tensor)" in small.source


@pytest.mark.parametrize(
    ("child", "layer"),
    [
        ("avgpool", nn.AdaptiveMaxPool2d(1)),
        ("avgpool", nn.AdaptiveAvgPool2d((1, 2))),
        ("fc1", nn.Conv2d(12, 6, 1, bias=False)),
        ("fc2", nn.Conv2d(6, 12, 1, groups=2)),
        ("activation", nn.PReLU(6)),
        ("scale_activation", nn.Softmax(dim=1)),
    ],
)
def test_one_of_unusual_layers_is_written_as_its_forward_is(child, layer):
    block = SqueezeExcitation(12, 6)
    setattr(block, child, layer)
    check_block(block, (12, 4, 2))
    original = network(block)
    small = prunecore.prune(original, level=15, input_shape=(3, 6, 2), mode="random")
    assert small.report["verified"]
    assert small.model.state_dict().keys() == original.state_dict().keys()
    assert "def forward(self, input: Tensor)" in small.source


def test_it_can_be_the_whole_network():
    small = prunecore.prune(
        SqueezeExcitation(12, 6), level=30, input_shape=(12, 4, 4), name="block"
    )
    assert small.report["verified"]
    assert small.model.fc1.out_channels < 6
    assert "class Block(SqueezeExcitation):" in small.source
