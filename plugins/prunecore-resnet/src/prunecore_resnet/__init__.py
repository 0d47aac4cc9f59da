"""Residual blocks, for prunecore: torchvision's, and the user's own through decorators."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from torch import nn

from prunecore.plugin import BlockSource, Channels, Signal, Writer, hookimpl
from prunecore_resnet import torchvision_blocks
from prunecore_resnet.decorators import BLOCKS, basic_block, bottleneck

__all__ = ["basic_block", "bottleneck"]


def _torchvision_types() -> dict[type[nn.Module], torchvision_blocks.Kind]:
    """torchvision's blocks; a model that came from it has imported them already."""
    module = sys.modules.get("torchvision.models.resnet")
    if module is None:
        return {}
    return {
        module.BasicBlock: torchvision_blocks.BASIC,
        module.Bottleneck: torchvision_blocks.BOTTLENECK,
    }


def _torchvision_kind(block: nn.Module) -> torchvision_blocks.Kind | None:
    """The kind of a torchvision block with its usual layers; others are followed as they are."""
    if BLOCKS.description(block) is not None:  # complains about a name that is not there
        return None
    kinds = _torchvision_types()
    kind = next((kinds[cls] for cls in type(block).__mro__ if cls in kinds), None)
    return kind if kind and torchvision_blocks.is_usual(kind, block) else None


@hookimpl
def prunecore_block_types() -> Sequence[type[nn.Module]]:
    """torchvision's `BasicBlock` and `Bottleneck`, and every decorated class."""
    return [*_torchvision_types(), *BLOCKS]


@hookimpl
def prunecore_calculate_dependencies(
    block: nn.Module, inputs: tuple[Signal, ...], channels: Channels
) -> Any:
    """The branch and the shortcut are coupled where they meet."""
    kind = _torchvision_kind(block)
    if kind is not None:
        return torchvision_blocks.calculate(kind, block, inputs[0], channels)
    return channels.trace(block, *inputs)


@hookimpl
def prunecore_write_block(block: nn.Module, name: str, writer: Writer) -> BlockSource:
    """torchvision's blocks as torchvision writes them; any other as its forward is."""
    kind = _torchvision_kind(block)
    if kind is not None:
        return torchvision_blocks.write(kind, block, writer)
    return writer.trace(block, name)
