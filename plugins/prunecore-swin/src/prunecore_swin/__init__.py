"""Attention in windows, for prunecore: torchvision's Swin transformers and MaxViT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from prunecore.plugin import BlockSource, Channels, LazyClasses, Signal, Writer, hookimpl
from prunecore_swin import maxvit, swin, video

# (follows a block, writes it)
Kind = tuple[Callable[..., Signal], Callable[[Any, str, Writer], BlockSource]]

_IMAGES = "torchvision.models.swin_transformer"
_VIDEOS = "torchvision.models.video.swin_transformer"
_MAXVIT = "torchvision.models.maxvit"
_KINDS: LazyClasses[Kind] = LazyClasses(
    {
        f"{_IMAGES}.ShiftedWindowAttention": (swin.follow_attention, swin.write_attention),
        f"{_IMAGES}.ShiftedWindowAttentionV2": (swin.follow_attention_v2, swin.write_attention_v2),
        f"{_IMAGES}.PatchMerging": (swin.follow_merging, swin.write_merging),
        f"{_IMAGES}.PatchMergingV2": (swin.follow_merging_v2, swin.write_merging),
        f"{_VIDEOS}.ShiftedWindowAttention3d": (video.follow_attention, video.write_attention),
        f"{_MAXVIT}.RelativePositionalMultiHeadAttention": (
            maxvit.follow_attention,
            maxvit.write_attention,
        ),
        f"{_MAXVIT}.PartitionAttentionLayer": (maxvit.follow_layer, maxvit.write_layer),
        f"{_MAXVIT}.WindowPartition": (maxvit.follow_partition, maxvit.write_plain),
        f"{_MAXVIT}.WindowDepartition": (maxvit.follow_departition, maxvit.write_plain),
        f"{_MAXVIT}.SwapAxes": (maxvit.follow_swap, maxvit.write_swap),
        "torchvision.ops.misc.Permute": (swin.follow_permute, swin.write_permute),
    }
)


@hookimpl
def prunecore_block_types() -> Sequence[type[nn.Module]]:
    """torchvision's attention in windows, and the merging of patches."""
    return list(_KINDS)


@hookimpl
def prunecore_calculate_dependencies(
    block: nn.Module, inputs: tuple[Any, ...], channels: Channels
) -> Signal:
    """Whole heads go, and the width that runs past all of them."""
    follow, _ = _KINDS[block]
    return follow(block, channels, *inputs)


@hookimpl
def prunecore_write_block(block: nn.Module, name: str, writer: Writer) -> BlockSource:
    """Attention whose width need not be that of its heads together."""
    _, write = _KINDS[block]
    return write(block, name, writer)
