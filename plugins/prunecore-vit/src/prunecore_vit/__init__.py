"""Multi-head attention and torchvision's vision transformers, for prunecore."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from prunecore.plugin import BlockSource, Channels, Writer, hookimpl
from prunecore_vit import attention, multiscale, network, torchvision_blocks

# (follows a block, writes it)
Kind = tuple[Callable[..., Any], Callable[..., BlockSource]]

_ATTENTION: Kind = (attention.calculate, attention.write)
_NETWORK: Kind = (network.follow, network.write)
_ENCODER_BLOCK: Kind = (torchvision_blocks.follow_block, torchvision_blocks.write_block)
_MLP: Kind = (torchvision_blocks.follow_mlp, torchvision_blocks.write_mlp)


def _kinds() -> Mapping[type[nn.Module], Kind]:
    """How each class is followed and written; a model from torchvision has imported that."""
    kinds: dict[type[nn.Module], Kind] = {nn.MultiheadAttention: _ATTENTION}
    torchvision = sys.modules.get(torchvision_blocks.MODULE)
    if torchvision is not None:
        kinds |= {
            torchvision.VisionTransformer: _NETWORK,
            torchvision.EncoderBlock: _ENCODER_BLOCK,
            torchvision.MLPBlock: _MLP,
        }
    videos = sys.modules.get(multiscale.MODULE)
    if videos is not None:
        kinds[videos.MultiscaleAttention] = (multiscale.follow, multiscale.write)
    return kinds


def _kind(block: nn.Module) -> Kind:
    kinds = _kinds()
    return next(kinds[cls] for cls in type(block).__mro__ if cls in kinds)


@hookimpl
def prunecore_block_types() -> Sequence[type[nn.Module]]:
    """`nn.MultiheadAttention`, and the blocks of torchvision's vision transformers."""
    return list(_kinds())


@hookimpl
def prunecore_calculate_dependencies(
    block: nn.Module, inputs: tuple[Any, ...], channels: Channels
) -> Any:
    """Whole heads go, or places in each of them, and the width that runs past all of them."""
    follow, _ = _kind(block)
    return follow(block, inputs, channels)


@hookimpl
def prunecore_write_block(block: nn.Module, name: str, writer: Writer) -> BlockSource:
    """Attention whose width need not be that of its heads together."""
    _, write = _kind(block)
    return write(block, name, writer)
