"""Fire modules, for prunecore: torchvision's, and the user's own through a decorator."""

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
from prunecore_squeezenet import torchvision_fire

__all__ = ["fire"]

BLOCKS = DecoratedBlocks()
fire = BLOCKS.decorator("fire", "a block class that squeezes, expands and concatenates")

_TORCHVISION = LazyClasses({"torchvision.models.squeezenet.Fire": torchvision_fire.is_usual})


@hookimpl
def prunecore_block_types() -> Sequence[type[nn.Module]]:
    """torchvision's `Fire`, and every decorated class."""
    return [*_TORCHVISION, *BLOCKS]


@hookimpl
def prunecore_calculate_dependencies(
    block: nn.Module, inputs: tuple[Signal, ...], channels: Channels
) -> Any:
    """The channels of all branches stand one after the other."""
    if _is_usual_fire(block):
        return torchvision_fire.calculate(block, inputs[0], channels)
    return channels.trace(block, *inputs)


@hookimpl
def prunecore_write_block(block: nn.Module, name: str, writer: Writer) -> BlockSource:
    """torchvision's `Fire` as torchvision writes it; any other block as its forward is."""
    if _is_usual_fire(block):
        return torchvision_fire.write(block, writer)
    return writer.trace(block, name)


def _is_usual_fire(block: nn.Module) -> bool:
    """True if a block is torchvision's with its usual layers; others are followed as they are."""
    is_decorated = BLOCKS.description(block) is not None  # complains about a name that is not there
    is_usual = _TORCHVISION.get(block)
    return not is_decorated and is_usual is not None and is_usual(block)
