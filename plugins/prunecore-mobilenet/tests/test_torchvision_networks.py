"""torchvision's own networks: exact, written as a person would, and with the original's options."""

from __future__ import annotations

import copy
import functools
import re

import pytest
import torch
from torch import nn
from torchvision import models

import prunecore
from prunecore.plugins.loading import load
from prunecore.testing import check_block, check_plugin

SHAPE = (3, 32, 32)
# What a written network has, and, but for them, no class but its own.
TEXTS = {
    "mobilenet_v2": [
        "class InvertedResidual(",
        "expand=False)",
        "skip=True)",
        "nn.ReLU6(inplace=True)",
    ],
    "mnasnet0_5": ["class _InvertedResidual(", "momentum=0.0003)", ", 5, stride=2"],
    "mnasnet1_0": ["class _InvertedResidual(", "momentum=0.0003)", ", 3, skip="],
    "mobilenet_v3_small": [
        "class SqueezeExcitation(",
        "class InvertedResidual(",
        "nn.BatchNorm2d(channels, eps=0.001, momentum=0.01)",
        ", 5, nn.Hardswish, squeeze=",
    ],
    "mobilenet_v3_large": [
        "class SqueezeExcitation(",
        "class InvertedResidual(",
        ", 3, nn.ReLU, expand=False, skip=True)",
    ],
    "efficientnet_b0": [
        "class SqueezeExcitation(",
        "class StochasticDepth(",
        "class MBConv(",
        "drop=0.025)",
    ],
    "efficientnet_v2_s": [
        "class StochasticDepth(",
        "class FusedMBConv(",
        "class SqueezeExcitation(",
        "class MBConv(",
        "nn.BatchNorm2d(channels, eps=0.001)",
        "expand=False, drop=0.0)",
        "drop=0.005)",
    ],
}
# What decides how a layer computes, its widths apart.
OPTIONS = [
    *("kernel_size", "stride", "padding", "dilation", "padding_mode"),
    *("eps", "momentum", "affine", "track_running_stats"),
    *("inplace", "output_size", "p", "mode"),
]


@functools.cache
def original(name: str) -> nn.Module:
    """A network whose statistics are not those of a new one, so that each of them counts."""
    torch.manual_seed(0)
    model = getattr(models, name)(num_classes=10)
    for key, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.ndim == 1 and tensor.is_floating_point():
            low = 0.5 if key.endswith(("weight", "var")) else -0.5
            nn.init.uniform_(tensor, low, low + 1)
    return model.eval()


@functools.cache
def half(name: str) -> prunecore.PrunedModel:
    return prunecore.prune(original(name), level=50, input_shape=SHAPE, mode="random", name=name)


@pytest.mark.parametrize(("level", "mode"), [(10, "random"), (90, "random"), (60, "l1-norm")])
@pytest.mark.parametrize("name", TEXTS)
def test_every_level_is_exact(name, level, mode):
    small = prunecore.prune(original(name), level=level, input_shape=SHAPE, mode=mode)
    assert small.report["verified"]
    assert abs(small.report["level"]["achieved"] - level) <= 1
    assert list(small.model.state_dict()) == list(original(name).state_dict())


@pytest.mark.parametrize("name", TEXTS)
def test_each_block_class_is_written_once(name, classes):
    source = half(name).source
    for text in TEXTS[name]:
        assert text in source
    expected = [text[len("class ") : -1] for text in TEXTS[name] if text.startswith("class ")]
    assert classes(source) == [*expected, type(original(name)).__name__]


@pytest.mark.parametrize("name", TEXTS)
def test_the_written_file_needs_no_formatting(name, check_style):
    check_style(half(name).source)


@pytest.mark.parametrize("name", TEXTS)
def test_every_layer_has_the_original_s_options(name):
    left_out = half(name).report["left_out"]
    for path, layer in original(name).named_modules():
        if any(True for _ in layer.children()) or path in left_out:
            continue
        written = half(name).model.get_submodule(path)
        assert type(written).__name__ == type(layer).__name__
        for option in OPTIONS:
            expected = getattr(layer, option, None)
            if isinstance(expected, float):  # it is written without the rounding of 1 - 0.9997
                expected = pytest.approx(expected, rel=1e-12)
            assert getattr(written, option, None) == expected, (path, option)


@pytest.mark.parametrize("name", TEXTS)
def test_the_written_network_trains(name):
    torch.manual_seed(0)
    network = copy.deepcopy(half(name).model).train()
    network(torch.randn(3, *SHAPE)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", TEXTS)
def test_every_block_is_followed_as_its_forward_is(name):
    plugins = load()
    blocks: dict[tuple[str, tuple[int, ...]], nn.Module] = {}

    def meet(block: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        text = re.sub(r"p=[\d.]+", "", repr(block))  # how often it is dropped changes nothing here
        blocks.setdefault((text, tuple(inputs[0].shape[1:])), block)

    hooks = [
        block.register_forward_pre_hook(meet)
        for block in original(name).modules()
        if (owner := plugins.owner(type(block))) and owner.name == "mobilenet"
    ]
    with torch.no_grad():
        original(name)(torch.randn(1, *SHAPE))
    for hook in hooks:
        hook.remove()
    for (_, shape), block in blocks.items():
        if type(block).__name__ != "StochasticDepth":  # which has no channels of its own
            check_block(block, shape, seeds=[len(blocks)])
    assert blocks


def test_the_plugin_s_hooks_answer_and_its_errors_name_it():
    check_plugin("mobilenet")
