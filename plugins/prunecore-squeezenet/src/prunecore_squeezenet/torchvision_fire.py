"""torchvision's `Fire`: how channels run through, and how it is written.

After Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model
size", 2016, arXiv 1602.07360, and torchvision's `squeezenet.py`.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch
from torch import nn

from prunecore.plugin import BlockSource, Call, Channels, Signal, Writer, is_like
from prunecore_squeezenet.written import Fire


def calculate(block: Any, x: Signal, channels: Channels) -> Signal:
    """Follow the channels: those of the two expansions, one after the other."""
    x = channels.through(block.squeeze_activation, channels.through(block.squeeze, x))

    expand1x1 = channels.through(block.expand1x1_activation, channels.through(block.expand1x1, x))
    expand3x3 = channels.through(block.expand3x3_activation, channels.through(block.expand3x3, x))

    return channels.apply(torch.cat, [expand1x1, expand3x3], 1)  # type: ignore[no-any-return]


def is_usual(block: Any) -> bool:
    """True if a block has the layers that the written class makes."""
    squeeze, *expansions = convs = _convolutions(block)
    if not all(type(conv) is nn.Conv2d for conv in convs):
        return False
    widths = [squeeze.in_channels, squeeze.out_channels, *(e.out_channels for e in expansions)]
    return is_like(block, functools.partial(Fire, *widths))


def write(block: Any, writer: Writer) -> BlockSource:
    """Write a usual block as torchvision does."""
    weights = [conv.weight for conv in _convolutions(block)]
    widths = [writer.width(weights[0], 1), *(writer.width(weight, 0) for weight in weights)]
    call = Call("Fire", tuple(widths), names=tuple(inspect.signature(Fire).parameters))
    return writer.source(call, Fire)


def _convolutions(block: Any) -> list[Any]:
    """The squeezing convolution and the two expanding ones."""
    return [block.squeeze, block.expand1x1, block.expand3x3]
