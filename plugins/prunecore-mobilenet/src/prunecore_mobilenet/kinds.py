"""What this family knows of each of torchvision's classes, and how the classes are found."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

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


def torchvision_class(path: str) -> type[nn.Module] | None:
    """The class at a path such as `torchvision.ops.misc.SqueezeExcitation`.

    A model that came from torchvision has imported it; without one there is nothing to find.
    """
    module, _, name = path.rpartition(".")
    return getattr(sys.modules.get(module), name, None)
