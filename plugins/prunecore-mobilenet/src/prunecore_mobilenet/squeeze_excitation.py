"""torchvision's `SqueezeExcitation`: how channels run through, and how it is written.

After Hu et al., "Squeeze-and-Excitation Networks", 2018, arXiv 1709.01507, and torchvision's
`misc.py`.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from prunecore.plugin import BlockSource, Call, Channels, Signal, Writer
from prunecore_mobilenet.definitions import Definitions
from prunecore_mobilenet.kinds import Kind, torchvision_class

CLASS = "torchvision.ops.misc.SqueezeExcitation"

_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.Sigmoid, nn.Hardsigmoid)


def is_of(module: Any, activation: str, scale_activation: str) -> bool:
    """Whether a module is a usual `SqueezeExcitation` with activations that are written so."""
    return (
        type(module) is torchvision_class(CLASS)
        and _read(module) is not None
        and _written(module.activation) == activation
        and _written(module.scale_activation) == scale_activation
    )


def define(definitions: Definitions, activation: str, scale_activation: str) -> str:
    """Define the class with these activations; returns its name in the file."""
    return definitions.add(
        "SqueezeExcitation", _TEXT, activation=activation, scale_activation=scale_activation
    )


def _read(block: Any) -> Any:
    """The block itself, if it has the usual layers."""
    is_usual = (
        type(block.avgpool) is nn.AdaptiveAvgPool2d
        and block.avgpool.output_size in (1, (1, 1))
        and all(_is_usual_convolution(conv) for conv in (block.fc1, block.fc2))
        and all(type(a) in _ACTIVATIONS for a in (block.activation, block.scale_activation))
    )
    return block if is_usual else None


def _calculate(block: Any, x: Signal, channels: Channels) -> Signal:
    """Each channel is scaled by a factor of its own, for which all of them are looked at."""
    scale = channels.through(block.avgpool, x)
    scale = channels.through(block.fc1, scale)
    scale = channels.through(block.activation, scale)
    scale = channels.through(block.fc2, scale)
    scale = channels.through(block.scale_activation, scale)
    return channels.couple(scale, x)


def _write(block: Any, _layers: Any, writer: Writer) -> BlockSource:
    definitions = Definitions(writer)
    name = define(definitions, _written(block.activation), _written(block.scale_activation))
    widths = (writer.width(block.fc1.weight, 1), writer.width(block.fc1.weight, 0))
    return BlockSource(Call(name, widths), definitions.texts)


def _is_usual_convolution(conv: Any) -> bool:
    return (
        type(conv) is nn.Conv2d
        and conv.kernel_size == conv.stride == (1, 1)
        and conv.padding == (0, 0)
        and conv.groups == 1
        and conv.bias is not None
    )


def _written(activation: Any) -> str:
    """An activation's constructor call."""
    inplace = "inplace=True" if getattr(activation, "inplace", False) else ""
    return f"nn.{type(activation).__name__}({inplace})"


KIND = Kind(_read, _calculate, _write)

_TEXT = """class {name}(nn.Module):
    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeeze, 1)
        self.fc2 = nn.Conv2d(squeeze, channels, 1)
        self.activation = {activation}
        self.scale_activation = {scale_activation}

    def forward(self, x: Tensor) -> Tensor:
        scale = self.activation(self.fc1(self.avgpool(x)))
        return self.scale_activation(self.fc2(scale)) * x
"""
