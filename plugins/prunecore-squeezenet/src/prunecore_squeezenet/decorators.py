"""The decorator that puts a user's own fire modules in this family's care."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import nn

from prunecore.plugin import DecoratedBlocks

Block = TypeVar("Block", bound=type[nn.Module])

BLOCKS = DecoratedBlocks()


def fire(
    *, lType: str = "fire", convs: Sequence[str], downsampling: Sequence[str] = ()
) -> Callable[[Block], Block]:
    """Put a block class that squeezes, expands and concatenates in this family's care.

    The class itself is not changed.

    Args:
        lType: names the block type.
        convs: the attributes that are its convolutions, in order.
        downsampling: the attributes that make up the shortcut, where it has layers.

    Raises:
        prunecore.UsageError: at the first use, for a name that the class does not have.
    """
    return BLOCKS.mark("fire", lType, convs, downsampling)
