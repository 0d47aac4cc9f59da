from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import SqueezeNet
from torchvision.models.squeezenet import Fire

import prunecore
from prunecore.testing import check_block, check_plugin

SHAPE = (3, 48, 48)
LEVELS = [5, 50, 80, 90, 95]


def fire(*widths: int) -> Fire:
    """A block whose outputs are not zero where few channels are left."""
    block = Fire(*widths)
    for conv in (block.squeeze, block.expand1x1, block.expand3x3):
        nn.init.normal_(conv.weight)
    return block


def test_the_plugin_answers_as_it_should():
    check_plugin("squeezenet")


@pytest.mark.parametrize("widths", [(12, 6, 8, 10), (5, 2, 3, 9), (16, 16, 4, 4)])
def test_the_block_is_followed_and_written_as_its_forward_is(widths):
    check_block(fire(*widths), (widths[0], 7, 7), seeds=range(6))


@pytest.mark.parametrize("mode", ["random", "l1-norm"])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("version", ["1_0", "1_1"])
def test_squeezenet_is_exact(version, level, mode, varied, check, check_style, classes, is_reached):
    model = varied(SqueezeNet(version, num_classes=10))
    small = prunecore.prune(model, level=level, input_shape=SHAPE, mode=mode)
    assert is_reached(small)
    check(model, small, SHAPE)
    check_style(small.source)
    assert classes(small.source) == ["Fire", "SqueezeNet"]
    assert small.report["left_out"] == []


def test_fire_has_torchvision_s_arguments(varied):
    small = prunecore.prune(varied(SqueezeNet("1_1")), level=40, input_shape=SHAPE, mode="random")
    kept = small.model.features[3]
    widths = [kept.squeeze.in_channels, kept.squeeze.out_channels]
    widths += [kept.expand1x1.out_channels, kept.expand3x3.out_channels]
    assert f"            Fire({', '.join(map(str, widths))}),\n" in small.source
    for name in ("inplanes", "squeeze_planes", "expand1x1_planes", "expand3x3_planes"):
        assert f"        {name}: int,\n" in small.source


# What reads a concatenation with its inputs in another order computes something else. The places
# are those after a pooling, after another block, and after the last one.
@pytest.mark.parametrize("mode", ["random", "l1-norm"])
@pytest.mark.parametrize("name", ["features.6.squeeze", "features.10.squeeze", "classifier.1"])
def test_inputs_out_of_order_after_a_concatenation_are_found(name, mode, varied, tmp_path: Path):
    model = varied(SqueezeNet("1_1", num_classes=10))
    file = tmp_path / "net.py"
    prunecore.prune(model, level=85, input_shape=SHAPE, mode=mode, name="net").save(file)
    prunecore.verify(file, model, input_shape=SHAPE)

    weights = load_file(file.with_suffix(".safetensors"))
    weights[f"{name}.weight"] = weights[f"{name}.weight"].roll(1, dims=1).contiguous()
    save_file(weights, file.with_suffix(".safetensors"))
    with pytest.raises(prunecore.VerificationError, match=rf"first at {name}\b"):
        prunecore.verify(file, model, input_shape=SHAPE)


class Narrow(Fire):
    """Constructs a `Fire` otherwise, of its usual layers."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels // 4, channels // 2, channels // 2)


def with_other_activations(*widths: int) -> Fire:
    block = Fire(*widths)
    block.squeeze_activation = nn.LeakyReLU(0.1)
    block.expand3x3_activation = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU())
    return block


def with_a_shared_activation(*widths: int) -> Fire:
    block = Fire(*widths)
    block.expand3x3_activation = block.expand1x1_activation = block.squeeze_activation
    return block


def with_dilation(*widths: int) -> Fire:
    block = Fire(*widths)
    block.expand3x3 = nn.Conv2d(widths[1], widths[3], 3, padding=2, dilation=2)
    return block


def without_bias(*widths: int) -> Fire:
    block = Fire(*widths)
    block.squeeze = nn.Conv2d(widths[0], widths[1], 1, bias=False)
    return block


def with_a_parameter_of_no_use(*widths: int) -> Fire:
    block = Fire(*widths)
    block.scale = nn.Parameter(torch.ones(3))
    return block


def with_another_kind_of_layer(*widths: int) -> Fire:
    block = Fire(*widths)
    block.squeeze = nn.Sequential(nn.Conv2d(widths[0], widths[1], 1), nn.BatchNorm2d(widths[1]))
    return block


@pytest.mark.parametrize("level", [40, 85])
@pytest.mark.parametrize(
    "unusual",
    [
        with_other_activations,
        with_dilation,
        without_bias,
        with_a_parameter_of_no_use,
        with_another_kind_of_layer,
    ],
)
def test_unusual_blocks_are_written_as_their_forward_is(unusual, level, varied, classes):
    model = varied(
        nn.Sequential(nn.Conv2d(3, 16, 3), Fire(16, 8, 16, 16), unusual(32, 12, 20, 24), Narrow(44))
    )
    small = prunecore.prune(model, level=level, input_shape=(3, 16, 16), mode="random", name="net")
    assert small.report["verified"]
    assert list(small.model.state_dict()) == list(model.state_dict())
    assert classes(small.source) == ["Fire", "Fire2", "Net"]
    assert "  Fire(" in small.source
    assert "  Fire2(" in small.source


def test_what_is_shared_within_a_block_does_not_make_it_unusual(varied, classes):
    model = varied(
        nn.Sequential(nn.Conv2d(3, 16, 3), with_a_shared_activation(16, 8, 16, 16), Narrow(32))
    )
    small = prunecore.prune(model, level=50, input_shape=(3, 16, 16), mode="random", name="net")
    assert small.report["verified"]
    assert classes(small.source) == ["Fire", "Net"]


def test_a_block_can_be_the_whole_network():
    small = prunecore.prune(fire(3, 16, 8, 8), level=30, input_shape=(3, 8, 8), name="block")
    assert small.model.squeeze.out_channels < 16
    assert small.model.expand1x1.out_channels == 8
    assert "class Block(Fire)" in small.source


def test_one_block_used_twice_stays_one(varied):
    block = Fire(16, 8, 8, 8)
    model = varied(nn.Sequential(nn.Conv2d(3, 16, 3), block, nn.ReLU(), block, nn.Conv2d(16, 4, 1)))
    small = prunecore.prune(model, level=50, input_shape=(3, 12, 12), mode="random", name="net")
    assert small.model[1].squeeze.weight is small.model[3].squeeze.weight
    assert small.report["verified"]
