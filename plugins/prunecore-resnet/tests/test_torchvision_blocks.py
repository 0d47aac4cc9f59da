from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops import FrozenBatchNorm2d

import prunecore
from prunecore.testing import check_block, check_plugin

SHAPE = (3, 32, 32)


def resnet(block: type[nn.Module], **arguments: object) -> ResNet:
    """A small ResNet whose statistics are not those of a new one, so that each of them counts."""
    torch.manual_seed(0)
    model = ResNet(block, [2, 1, 1, 1], num_classes=10, **arguments)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.ndim == 1 and tensor.is_floating_point():
            low = 0.5 if name.endswith(("weight", "var")) else -0.5
            nn.init.uniform_(tensor, low, low + 1)
    return model.eval()


def shortcut(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 1, 2, bias=False), nn.BatchNorm2d(width))


@pytest.mark.parametrize(
    "block",
    [
        BasicBlock(16, 16),
        BasicBlock(8, 16, 2, shortcut(8, 16)),
        BasicBlock(16, 16, norm_layer=partial(nn.GroupNorm, 4)),
        Bottleneck(64, 16),
        Bottleneck(32, 16, 2, shortcut(32, 64)),
        Bottleneck(64, 16, groups=32, base_width=64),
        Bottleneck(64, 16, groups=4, base_width=64),
        Bottleneck(64, 16, dilation=2),
    ],
    ids=[
        "basic",
        "basic, shortcut",
        "basic, group norm",
        "bottleneck",
        "bottleneck, shortcut",
        "bottleneck, many groups",
        "bottleneck, wide groups",
        "bottleneck, dilation",
    ],
)
def test_a_block_is_followed_as_it_is_traced_and_written_exactly(block):
    check_block(block, (block.conv1.in_channels, 6, 6), seeds=range(5))


def test_the_plugin_s_hooks_answer_and_its_errors_name_it():
    check_plugin("resnet")


@pytest.mark.parametrize("level", [20, 50, 80])
@pytest.mark.parametrize(
    ("model", "texts"),
    [
        (partial(resnet, BasicBlock), ["class BasicBlock", "width: int", "stride=2"]),
        (partial(resnet, Bottleneck), ["class Bottleneck", "width2: int", "downsample=True"]),
        (
            partial(resnet, Bottleneck, groups=32, width_per_group=4),
            ["groups: int", "groups=groups"],
        ),
    ],
    ids=["basic", "bottleneck", "grouped"],
)
def test_usual_blocks_are_written_as_torchvision_writes_them(model, texts, level, classes):
    small = prunecore.prune(model(), level=level, input_shape=SHAPE, mode="random")
    assert small.report["verified"]
    assert len(classes(small.source)) == 2
    for text in texts:
        assert text in small.source


@pytest.mark.parametrize(
    "model",
    [
        partial(resnet, BasicBlock, norm_layer=partial(nn.GroupNorm, 4)),
        partial(resnet, Bottleneck, replace_stride_with_dilation=[False, True, True]),
        partial(resnet, BasicBlock, norm_layer=FrozenBatchNorm2d),
        partial(resnet, BasicBlock, norm_layer=partial(nn.BatchNorm2d, eps=1e-3)),
    ],
    ids=["group norm", "dilation", "frozen", "eps"],
)
def test_unusual_blocks_are_written_as_their_forward_is(model):
    original = model()
    small = prunecore.prune(original, level=40, input_shape=SHAPE, mode="random")
    assert small.report["verified"]
    assert small.model.state_dict().keys() == original.state_dict().keys()


def test_a_block_can_be_the_whole_network():
    block = BasicBlock(3, 3)
    small = prunecore.prune(block, level=30, input_shape=(3, 8, 8), name="block")
    assert small.model.conv1.out_channels < 3
    assert "class Block(BasicBlock)" in small.source


def test_the_written_training_mode_runs():
    small = prunecore.prune(resnet(Bottleneck), level=50, input_shape=SHAPE)
    small.model.train()(torch.randn(2, *SHAPE)).sum().backward()
    assert all(parameter.grad is not None for parameter in small.model.parameters())
