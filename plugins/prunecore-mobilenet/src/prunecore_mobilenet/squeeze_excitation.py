"""torchvision's `SqueezeExcitation`: how channels run through, and how it is written.

After Hu et al., "Squeeze-and-Excitation Networks", 2018, arXiv 1709.01507, and torchvision's
`misc.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from prunecore.plugin import BlockSource, Call, Channels, LazyClasses, Signal, Writer
from prunecore_mobilenet.kinds import Kind
from prunecore_mobilenet.written.common import SqueezeExcitation

CLASS = "torchvision.ops.misc.SqueezeExcitation"

_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.Sigmoid, nn.Hardsigmoid)


def activations(activation: Any, scale_activation: Any) -> dict[str, Call]:
    """What is written in the places of the two activations of the class as it is written."""
    return {"nn.ReLU()": _written(activation), "nn.Sigmoid()": _written(scale_activation)}


def is_of(module: Any, written: Mapping[str, Call]) -> bool:
    """True if a module is a usual `SqueezeExcitation` with activations that are written so."""
    return (
        _THEIRS.found().get(type(module)) is KIND
        and _read(module) is not None
        and activations(module.activation, module.scale_activation) == written
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
    widths = (writer.width(block.fc1.weight, 1), writer.width(block.fc1.weight, 0))
    written = activations(block.activation, block.scale_activation)
    return writer.source(Call("SqueezeExcitation", widths), SqueezeExcitation, written)


def _is_usual_convolution(conv: Any) -> bool:
    return (
        type(conv) is nn.Conv2d
        and conv.kernel_size == conv.stride == (1, 1)
        and conv.padding == (0, 0)
        and conv.groups == 1
        and conv.bias is not None
    )


def _written(activation: Any) -> Call:
    """An activation's constructor call."""
    return Call.of(type(activation), inplace=getattr(activation, "inplace", False))


KIND = Kind(_read, _calculate, _write)
_THEIRS = LazyClasses({CLASS: KIND})
