"""Blocks by themselves: unusual layers, several kinds in one network, widths that tell nothing."""

from __future__ import annotations

import ast
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import efficientnet, mnasnet, mobilenet_v3_small, mobilenetv2, mobilenetv3
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.misc import SqueezeExcitation

import prunecore
from prunecore.testing import check_block

Change = Callable[[Any], None]


def v2(stride: int = 1, norm_layer: Any = None) -> nn.Module:
    return mobilenetv2.InvertedResidual(12, 12, stride, 4, norm_layer)


def mnas() -> nn.Module:
    return mnasnet._InvertedResidual(12, 12, 5, 1, 3, mnasnet._BN_MOMENTUM)


def v3(squeezes: bool = True, norm_layer: Any = nn.BatchNorm2d, dilation: int = 1) -> nn.Module:
    config = mobilenetv3.InvertedResidualConfig(16, 5, 48, 16, squeezes, "HS", 1, dilation, 1.0)
    return mobilenetv3.InvertedResidual(config, norm_layer)


def mb_conv(ratio: float = 3) -> nn.Module:
    config = efficientnet.MBConvConfig(ratio, 5, 1, 16, 16, 1)
    return efficientnet.MBConv(config, 0.25, nn.BatchNorm2d)


def fused(stride: int = 1, ratio: float = 3) -> nn.Module:
    config = efficientnet.FusedMBConvConfig(ratio, 3, stride, 16, 16, 1)
    return efficientnet.FusedMBConv(config, 0.25, nn.BatchNorm2d)


def setting(path: str, value: Any) -> Change:
    """Sets a child or an attribute at a path."""
    holder, _, name = path.rpartition(".")
    return lambda block: setattr(block.get_submodule(holder), name, value)


def enumerated(layers: nn.Sequential) -> list[tuple[str, nn.Module]]:
    return [(f"layer{number}", layer) for number, layer in enumerate(layers)]


def network(*blocks: nn.Module, width: int = 12) -> nn.Module:
    """Blocks that take and return as many channels, in a network that verification can look at."""
    torch.manual_seed(0)
    stem, head = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 4, 1)
    return nn.Sequential(stem, *blocks, head)


@pytest.mark.parametrize(
    ("block", "shape", "call"),
    [
        (v2(2), (12, 8, 8), "stride=2)"),
        (mnas(), (12, 8, 8), ", 5, skip=True)"),
        (v3(dilation=2), (16, 12, 12), "dilation=2, skip=True)"),
        (v3(squeezes=False), (16, 8, 8), "nn.Hardswish, skip=True)"),
        (mb_conv(), (16, 8, 8), "drop=0.25)"),
        (mb_conv(ratio=1), (16, 8, 8), "expand=False, drop=0.25)"),
        (fused(2), (16, 8, 8), "stride=2)"),
        (fused(ratio=1), (16, 8, 8), "expand=False, drop=0.25)"),
    ],
)
def test_usual_blocks_are_written_by_hand(block, shape, call):
    check_block(block, shape)
    source = prunecore.prune(
        network(block, width=shape[0]), level=50, input_shape=(3, *shape[1:])
    ).source
    calls = [
        ast.unparse(node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)
    ]
    assert any(c.startswith(f"{type(block).__name__}(") and c.endswith(call) for c in calls)
    assert "forward(self, x: Tensor)" in source


def test_no_squeeze_excitation_is_written_where_a_network_has_none(classes):
    source = prunecore.prune(
        network(v3(squeezes=False), width=16), level=30, input_shape=(3, 8, 8)
    ).source
    assert classes(source) == ["InvertedResidual", "Sequential"]
    assert "squeeze" not in source


UNUSUAL: list[tuple[Callable[[], nn.Module], Change | None]] = [
    (partial(v2, norm_layer=partial(nn.GroupNorm, 4)), None),
    (partial(v2, norm_layer=FrozenBatchNorm2d), None),
    (partial(v2, norm_layer=partial(nn.BatchNorm2d, affine=False)), None),
    (v2, setting("conv.0.0", nn.Conv2d(12, 48, 1))),
    (v2, setting("conv.0.0", nn.Conv2d(12, 48, 3, padding=1, bias=False))),
    (v2, setting("conv.0.2", nn.ReLU6())),
    (v2, setting("conv.1.0", nn.Conv2d(48, 48, 5, padding=2, groups=48, bias=False))),
    (v2, setting("conv.1.0", nn.Conv2d(48, 48, 3, padding=1, groups=12, bias=False))),
    (v2, setting("conv.1.0", nn.Conv2d(48, 48, 3, padding=2, dilation=2, groups=48, bias=False))),
    (v2, setting("conv.1.0.padding_mode", "reflect")),
    (v2, setting("conv.1.2", nn.Hardtanh(0, 3))),
    (v2, setting("conv.3.eps", 0.1)),
    (v2, lambda block: setattr(block, "conv", nn.Sequential(OrderedDict(enumerated(block.conv))))),
    (v2, setting("scale", nn.Parameter(torch.ones(12)))),
    (mnas, setting("layers.2", nn.SiLU(inplace=True))),
    (mnas, setting("layers.4.momentum", None)),
    (mnas, lambda block: block.layers.append(nn.ReLU())),
    (v3, setting("block.0.2", nn.ReLU(inplace=True))),
    (v3, setting("block.2.scale_activation", nn.Sigmoid())),
    (v3, setting("block.2", nn.Identity())),
    (v3, setting("block.3", nn.Conv2d(48, 16, 1))),
    (mb_conv, setting("block.2", nn.Identity())),
    (mb_conv, setting("block.2.activation", nn.PReLU(4))),
    (partial(mb_conv, ratio=1), lambda block: setattr(block, "block", block.block[1:2])),
    (mb_conv, setting("stochastic_depth", nn.Identity())),
    (mb_conv, setting("stochastic_depth.mode", "batch")),
    (fused, setting("stochastic_depth", nn.Dropout(0.1))),
    (fused, setting("block.1.0", nn.Conv2d(48, 16, 1, groups=2, bias=False))),
    (fused, setting("block.1", nn.Conv2d(48, 16, 1))),
]


@pytest.mark.parametrize(("make", "change"), UNUSUAL)
def test_unusual_blocks_are_written_as_their_forward_is(make, change):
    block = make()
    if change is not None:
        change(block)
    width = 16 if hasattr(block, "block") else 12
    check_block(block, (width, 8, 8))
    original = network(block, width=width)
    small = prunecore.prune(original, level=30, input_shape=(3, 8, 8), mode="random")
    assert small.report["verified"]
    assert small.model.state_dict().keys() == original.state_dict().keys()
    assert "conv_norm" not in small.source
    assert "skip: bool" not in small.source


def test_blocks_of_several_kinds_get_names_of_their_own(classes, check_style):
    eps = partial(nn.BatchNorm2d, eps=1 - 0.999, momentum=mnasnet._BN_MOMENTUM)
    unusual = v2()
    setting("conv.2", nn.Conv2d(48, 12, 1))(unusual)
    blocks = [
        nn.Sequential(v2(), v2(norm_layer=eps), unusual, mnas(), nn.Conv2d(12, 16, 1)),
        nn.Sequential(v3(), v3(norm_layer=eps), mb_conv(), fused(), SqueezeExcitation(16, 4)),
        nn.Conv2d(16, 12, 1),
    ]
    original = network(*blocks)
    small = prunecore.prune(original, level=40, input_shape=(3, 8, 8), mode="random", name="mixed")
    assert small.report["verified"]
    found = [name.rstrip("0123456789") for name in classes(small.source)]
    assert found.count("InvertedResidual") == 5
    assert found.count("_InvertedResidual") == found.count("MBConv") == 1
    assert found.count("SqueezeExcitation") == 3
    check_style(small.source)


def test_a_block_without_a_shortcut_has_none_when_its_widths_become_equal():
    block = mobilenetv2.InvertedResidual(12, 16, 1, 4)
    small = prunecore.prune(
        network(block, nn.Conv2d(16, 12, 1)), level=95, input_shape=(3, 8, 8), mode="random"
    )
    assert small.model[0].out_channels == small.model[1].conv[-1].num_features
    assert not small.model[1].use_res_connect


@pytest.mark.parametrize("make", [v2, mnas, v3, mb_conv, fused])
def test_a_block_can_be_the_whole_network(make):
    block = make()
    width = next(block.parameters()).shape[1]
    small = prunecore.prune(block, level=30, input_shape=(width, 8, 8), name="block")
    assert small.report["verified"]
    own = type(block).__name__
    assert f"class Block({own}):" in small.source


def test_a_class_that_only_constructs_a_block_is_written_as_the_block(classes):
    class Wide(mobilenetv2.InvertedResidual):
        def __init__(self) -> None:
            super().__init__(12, 12, 1, 8)

    small = prunecore.prune(network(Wide()), level=40, input_shape=(3, 8, 8))
    assert small.report["verified"]
    assert classes(small.source) == ["InvertedResidual", "Sequential"]


def test_blocks_go_as_a_whole():
    torch.manual_seed(0)
    model = mobilenet_v3_small(num_classes=10)
    small = prunecore.prune(
        model,
        level=97,
        input_shape=(3, 32, 32),
        mode="l1-norm",
        scoring=prunecore.Scoring(normalize="none"),
        limits=prunecore.Limits(remove_blocks=True),
    )
    gone = [model.get_submodule(path) for path in small.report["left_out"]]
    assert gone
    assert all(block.use_res_connect for block in gone)
    assert small.report["verified"]
