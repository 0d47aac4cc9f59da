"""Residual blocks, for prunecore: torchvision's, and the user's own through decorators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from prunecore.plugin import (
    BlockSource,
    Channels,
    DecoratedBlocks,
    LazyClasses,
    Signal,
    Writer,
    hookimpl,
)
from prunecore_resnet import torchvision_blocks

__all__ = ["basic_block", "bottleneck"]


BLOCKS = DecoratedBlocks()
basic_block = BLOCKS.decorator(
    "basic_block", "a residual block class of two convolutions", block_type="basic"
)
bottleneck = BLOCKS.decorator("bottleneck", "a bottleneck block class of three convolutions")

_TORCHVISION = LazyClasses(
    {
        "torchvision.models.resnet.BasicBlock": torchvision_blocks.BASIC,
        "torchvision.models.resnet.Bottleneck": torchvision_blocks.BOTTLENECK,
    }
)


@hookimpl
def prunecore_block_types() -> Sequence[type[nn.Module]]:
    """torchvision's `BasicBlock` and `Bottleneck`, and every decorated class."""
    return [*_TORCHVISION, *BLOCKS]


@hookimpl
def prunecore_calculate_dependencies(
    block: nn.Module, inputs: tuple[Signal, ...], channels: Channels
) -> Any:
    """The branch and the shortcut are coupled where they meet."""
    kind = _usual_kind(block)
    if kind is not None:
        return torchvision_blocks.calculate(kind, block, inputs[0], channels)
    return channels.trace(block, *inputs)


@hookimpl
def prunecore_write_block(block: nn.Module, name: str, writer: Writer) -> BlockSource:
    """torchvision's blocks as torchvision writes them; any other as its forward is."""
    kind = _usual_kind(block)
    if kind is not None:
        return torchvision_blocks.write(kind, block, writer)
    return writer.trace(block, name)


def _usual_kind(block: nn.Module) -> torchvision_blocks.Kind | None:
    """The kind of a torchvision block with its usual layers; others are followed as they are."""
    if BLOCKS.description(block) is not None:  # complains about a name that is not there
        return None
    kind = _TORCHVISION.get(block)
    return kind if kind and torchvision_blocks.is_usual(kind, block) else None
