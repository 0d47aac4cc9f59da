from __future__ import annotations

import ast
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops import FrozenBatchNorm2d

import prunecore
from prunecore.channels import Channels
from prunecore.dependencies import merge
from prunecore.plugins import Plugins, load
from prunecore.signal import FIXED, Signal, without_channels

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


def coupled(model: nn.Module, plugins: Plugins) -> dict[str, list[list[int]]]:
    """What every weight axis is bound to, channels numbered as they come."""
    channels = Channels(model, plugins)
    x = torch.empty((2, *SHAPE), device="meta")
    output = channels.through(model, Signal(x, without_channels(4)))
    channels.pin(output.ids, "it is an output")
    found = merge(model, channels.records)
    numbers: dict[int, int] = {FIXED: FIXED}
    bound = {}
    for name in sorted(found.bound):
        arrays = [found.axes[index].tolist() for _, index in sorted(found.bound[name].items())]
        bound[name] = [[numbers.setdefault(c, len(numbers)) for c in a] for a in arrays]
    return bound


@pytest.mark.parametrize(
    "model",
    [
        partial(resnet, BasicBlock),
        partial(resnet, Bottleneck),
        partial(resnet, Bottleneck, groups=32, width_per_group=4),
    ],
    ids=["basic", "bottleneck", "grouped"],
)
def test_the_hook_couples_what_tracing_couples(model: Callable[[], nn.Module]):
    plugins = load()
    without = Plugins([plugin for plugin in plugins.all if plugin.name != "resnet"])
    assert without.owner(BasicBlock) is None
    assert coupled(model(), plugins) == coupled(model(), without)


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
def test_usual_blocks_are_written_as_torchvision_writes_them(model, texts, level):
    small = prunecore.prune(model(), level, SHAPE, mode="random")
    assert small.report["verified"]
    classes = [n.name for n in ast.walk(ast.parse(small.source)) if isinstance(n, ast.ClassDef)]
    assert len(classes) == 2
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
    small = prunecore.prune(original, 40, SHAPE, mode="random")
    assert small.report["verified"]
    assert small.model.state_dict().keys() == original.state_dict().keys()


def test_a_block_can_be_the_whole_network():
    block = BasicBlock(3, 3)
    small = prunecore.prune(block, 30, (3, 8, 8), name="block")
    assert small.model.conv1.out_channels < 3
    assert "class BasicBlock2(BasicBlock)" in small.source


def test_the_written_training_mode_runs():
    small = prunecore.prune(resnet(Bottleneck), 50, SHAPE)
    small.model.train()(torch.randn(2, *SHAPE)).sum().backward()
    assert all(parameter.grad is not None for parameter in small.model.parameters())
