"""Attention in windows, for prunecore: torchvision's Swin transformers and MaxViT."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from prunecore.plugin import BlockSource, Channels, Signal, Writer, hookimpl
from prunecore_swin import maxvit, swin, video

# (follows a block, writes it)
Kind = tuple[Callable[..., Signal], Callable[[Any, str, Writer], BlockSource]]

_KINDS: Mapping[str, Mapping[str, Kind]] = {  # by module and class of torchvision
    "models.swin_transformer": {
        "ShiftedWindowAttention": (swin.follow_attention, swin.write_attention),
        "ShiftedWindowAttentionV2": (swin.follow_attention_v2, swin.write_attention_v2),
        "PatchMerging": (swin.follow_merging, swin.write_merging),
        "PatchMergingV2": (swin.follow_merging_v2, swin.write_merging),
    },
    "models.video.swin_transformer": {
        "ShiftedWindowAttention3d": (video.follow_attention, video.write_attention),
    },
    "models.maxvit": {
        "RelativePositionalMultiHeadAttention": (maxvit.follow_attention, maxvit.write_attention),
        "PartitionAttentionLayer": (maxvit.follow_layer, maxvit.write_layer),
        "WindowPartition": (maxvit.follow_partition, maxvit.write_plain),
        "WindowDepartition": (maxvit.follow_departition, maxvit.write_plain),
        "SwapAxes": (maxvit.follow_swap, maxvit.write_swap),
    },
    "ops.misc": {
        "Permute": (swin.follow_permute, swin.write_permute),
    },
}


def _kinds() -> dict[type[nn.Module], Kind]:
    """How each class is followed and written; a model from torchvision has imported that."""
    found: dict[type[nn.Module], Kind] = {}
    for name, kinds in _KINDS.items():
        module = sys.modules.get(f"torchvision.{name}")
        if module is not None:
            found |= {getattr(module, cls): kind for cls, kind in kinds.items()}
    return found


def _kind(block: nn.Module) -> Kind:
    kinds = _kinds()
    return next(kinds[cls] for cls in type(block).__mro__ if cls in kinds)


@hookimpl
def prunecore_block_types() -> Sequence[type[nn.Module]]:
    """torchvision's attention in windows, and the merging of patches."""
    return list(_kinds())


@hookimpl
def prunecore_calculate_dependencies(
    block: nn.Module, inputs: tuple[Any, ...], channels: Channels
) -> Signal:
    """Whole heads go, and the width that runs past all of them."""
    follow, _ = _kind(block)
    return follow(block, channels, *inputs)


@hookimpl
def prunecore_write_block(block: nn.Module, name: str, writer: Writer) -> BlockSource:
    """Attention whose width need not be that of its heads together."""
    _, write = _kind(block)
    return write(block, name, writer)
