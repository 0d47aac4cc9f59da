"""The decorators that put a user's own residual blocks in this family's care."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import nn

from prunecore.plugin import DecoratedBlocks

Block = TypeVar("Block", bound=type[nn.Module])

BLOCKS = DecoratedBlocks()


def basic_block(
    *, lType: str = "basic", convs: Sequence[str], downsampling: Sequence[str] = ()
) -> Callable[[Block], Block]:
    """Put a residual block class of two convolutions in this family's care.

    The class itself is not changed.

    Args:
        lType: names the block type.
        convs: the attributes that are its convolutions, in order.
        downsampling: the attributes that make up the shortcut, where it has layers.

    Raises:
        prunecore.UsageError: at the first use, for a name that the class does not have.
    """
    return BLOCKS.mark("basic_block", lType, convs, downsampling)


def bottleneck(
    *, lType: str = "bottleneck", convs: Sequence[str], downsampling: Sequence[str] = ()
) -> Callable[[Block], Block]:
    """Put a bottleneck block class of three convolutions in this family's care.

    The class itself is not changed.

    Args:
        lType: names the block type.
        convs: the attributes that are its convolutions, in order.
        downsampling: the attributes that make up the shortcut, where it has layers.

    Raises:
        prunecore.UsageError: at the first use, for a name that the class does not have.
    """
    return BLOCKS.mark("bottleneck", lType, convs, downsampling)
