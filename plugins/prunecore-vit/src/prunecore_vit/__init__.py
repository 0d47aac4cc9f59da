"""Multi-head attention and torchvision's vision transformers, for prunecore."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from prunecore.plugin import BlockSource, Channels, LazyClasses, Writer, hookimpl
from prunecore_vit import attention, multiscale, network, torchvision_blocks

# (follows a block, writes it)
Kind = tuple[Callable[..., Any], Callable[..., BlockSource]]

_KINDS: LazyClasses[Kind] = LazyClasses(
    {
        "torch.nn.MultiheadAttention": (attention.calculate, attention.write),
        f"{torchvision_blocks.MODULE}.VisionTransformer": (network.follow, network.write),
        f"{torchvision_blocks.MODULE}.EncoderBlock": (
            torchvision_blocks.follow_block,
            torchvision_blocks.write_block,
        ),
        f"{torchvision_blocks.MODULE}.MLPBlock": (
            torchvision_blocks.follow_mlp,
            torchvision_blocks.write_mlp,
        ),
        "torchvision.models.video.mvit.MultiscaleAttention": (multiscale.follow, multiscale.write),
    }
)


@hookimpl
def prunecore_block_types() -> Sequence[type[nn.Module]]:
    """`nn.MultiheadAttention`, and the blocks of torchvision's vision transformers."""
    return list(_KINDS)


@hookimpl
def prunecore_calculate_dependencies(
    block: nn.Module, inputs: tuple[Any, ...], channels: Channels
) -> Any:
    """Whole heads go, or places in each of them, and the width that runs past all of them."""
    follow, _ = _KINDS[block]
    return follow(block, inputs, channels)


@hookimpl
def prunecore_write_block(block: nn.Module, name: str, writer: Writer) -> BlockSource:
    """Attention whose width need not be that of its heads together."""
    _, write = _KINDS[block]
    return write(block, name, writer)
