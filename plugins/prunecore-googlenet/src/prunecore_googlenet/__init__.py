"""Inception blocks, for prunecore: torchvision's, and the user's own through a decorator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from prunecore.plugin import BlockSource, Channels, DecoratedBlocks, Signal, Writer, hookimpl
from prunecore_googlenet import torchvision_blocks

__all__ = ["inception"]

BLOCKS = DecoratedBlocks()
inception = BLOCKS.decorator("inception", "a block class that concatenates branches")


@hookimpl
def prunecore_block_types() -> Sequence[type[nn.Module]]:
    """torchvision's blocks of GoogLeNet and Inception v3, and every decorated class."""
    return [*torchvision_blocks.KINDS, *BLOCKS]


@hookimpl
def prunecore_calculate_dependencies(
    block: nn.Module, inputs: tuple[Signal, ...], channels: Channels
) -> Any:
    """The channels of all branches stand one after the other."""
    kind = _usual_kind(block)
    if kind is None:
        return channels.trace(block, *inputs)
    return kind.calculate(block, inputs[0], channels)


@hookimpl
def prunecore_write_block(block: nn.Module, name: str, writer: Writer) -> BlockSource:
    """torchvision's blocks as torchvision writes them; any other as its forward is."""
    kind = _usual_kind(block)
    if kind is None:
        return writer.trace(block, name)
    return torchvision_blocks.write(kind, block, writer)


def _usual_kind(block: nn.Module) -> torchvision_blocks.Kind | None:
    """The kind of a torchvision block with its usual layers; others are followed as they are."""
    if BLOCKS.description(block) is not None:  # complains about a name that the block has not
        return None
    kind = torchvision_blocks.KINDS.get(block)
    return kind if kind and torchvision_blocks.is_usual(kind, block) else None
