"""torchvision's `BasicBlock` and `Bottleneck`: how channels run through, and how they are written.

After He et al., "Deep Residual Learning for Image Recognition", 2016, arXiv 1512.03385, and
torchvision's `resnet.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from prunecore.plugin import BlockSource, Call, Channels, Signal, Writer, is_like
from prunecore_resnet.written import BasicBlock, Bottleneck, GroupedBottleneck


@dataclass(frozen=True)
class Kind:
    """One of torchvision's residual blocks.

    Attributes:
        name: the class's name.
        convs: how many convolutions its branch has.
        strided: which of them may have a stride and groups, from 1.
        written: the class as it is written, by whether that convolution has groups.
    """

    name: str
    convs: int
    strided: int
    written: Mapping[bool, type[nn.Module]]


BASIC = Kind("BasicBlock", 2, 1, {False: BasicBlock})
BOTTLENECK = Kind("Bottleneck", 3, 2, {False: Bottleneck, True: GroupedBottleneck})


def calculate(kind: Kind, block: Any, x: Signal, channels: Channels) -> Signal:
    """Follow the channels: convolution, norm and activation in turn, then the shortcut."""
    out = x
    for number in range(1, kind.convs + 1):
        out = channels.through(getattr(block, f"conv{number}"), out)
        out = channels.through(getattr(block, f"bn{number}"), out)
        if number < kind.convs:
            out = channels.through(block.relu, out)
    identity = x if block.downsample is None else channels.through(block.downsample, x)
    return channels.through(block.relu, channels.couple(out, identity))  # type: ignore[no-any-return]


def is_usual(kind: Kind, block: Any) -> bool:
    """True if a block has the layers that its class makes unless it is told otherwise."""
    convs = _convolutions(kind, block)
    if not all(type(conv) is nn.Conv2d for conv in convs):
        return False
    options = _options(kind, block, getattr)
    written = kind.written.get("groups" in options)
    if written is None:
        return False
    widths = (convs[0].in_channels, *(conv.out_channels for conv in convs))
    return is_like(block, functools.partial(written, *widths, **options))


def write(kind: Kind, block: Any, writer: Writer) -> BlockSource:
    """Write a usual block as torchvision does."""
    convs = _convolutions(kind, block)
    widths = (writer.width(convs[0].weight, 1), *(writer.width(c.weight, 0) for c in convs))
    options = _options(kind, block, writer.argument)
    call = Call(kind.name, widths, options, {"stride": 1, "downsample": False})
    return writer.source(call, kind.written["groups" in options])


def _convolutions(kind: Kind, block: Any) -> list[Any]:
    """The branch's convolutions, in order."""
    return [getattr(block, f"conv{number}") for number in range(1, kind.convs + 1)]


def _options(kind: Kind, block: Any, read: Callable[[nn.Module, str], Any]) -> dict[str, Any]:
    """The arguments that are no widths, the number of groups as `read` gives it."""
    strided = getattr(block, f"conv{kind.strided}")
    groups = {"groups": read(strided, "groups")} if strided.groups > 1 else {}
    return {**groups, "stride": strided.stride[0], "downsample": block.downsample is not None}
