"""Residual blocks, for prunecore: torchvision's, and the user's own through decorators."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from torch import nn

from prunecore import BlockSource, Channels, Signal, Writer, hookimpl
from prunecore_resnet import torchvision_blocks
from prunecore_resnet.decorators import basic_block, bottleneck, check_names, decorated

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
    kinds = _torchvision_types()
    return next((kinds[cls] for cls in type(block).__mro__ if cls in kinds), None)


@hookimpl
def prunecore_block_types() -> Sequence[type[nn.Module]]:
    """torchvision's `BasicBlock` and `Bottleneck`, and every decorated class."""
    return [*_torchvision_types(), *decorated()]


@hookimpl
def prunecore_calculate_dependencies(
    block: nn.Module, inputs: tuple[Signal, ...], channels: Channels
) -> Any:
    """The branch and the shortcut are coupled where they meet."""
    known = _torchvision_kind(block)
    if known is None:
        check_names(block)
        return channels.trace(block, *inputs)
    return torchvision_blocks.calculate(known, block, inputs[0], channels)


@hookimpl
def prunecore_write_block(block: nn.Module, name: str, writer: Writer) -> BlockSource:
    """torchvision's blocks as torchvision writes them; a decorated class as its forward is."""
    known = _torchvision_kind(block)
    source = None
    if known is not None:
        source = torchvision_blocks.write(known, block, name, writer)
    return source or writer.trace(block, name)
