"""What this family knows of each of torchvision's classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prunecore.plugin import BlockSource, Channels, Signal, Writer


@dataclass(frozen=True)
class Kind:
    """How the blocks of one of torchvision's classes are followed and written.

    Attributes:
        read: the layers of a block; `None` if they are not what its class makes of its arguments.
        calculate: `(block, x, channels)` to the block's output.
        write: `(block, layers, writer)` to its constructor call and what that needs.
    """

    read: Callable[[Any], Any]
    calculate: Callable[[Any, Signal, Channels], Signal]
    write: Callable[[Any, Any, Writer], BlockSource]
