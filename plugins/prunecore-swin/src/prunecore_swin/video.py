"""torchvision's Swin attention for videos: how channels run through, and how it is written.

After Liu et al., "Video Swin Transformer", 2021, arXiv 2106.13230, and torchvision's
`video/swin_transformer.py`.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import torch.nn.functional as F

from prunecore import BlockSource, Channels, Signal, Writer
from prunecore_swin import attention, written_video
from prunecore_swin.swin import attention_call

_PARTS = ("to_windows3d", "from_windows3d", "lie_apart3d", "relative_position_index3d")
_IMPORTS = frozenset({"import torch", "from collections.abc import Sequence"})


def follow_attention(block: Any, channels: Channels, x: Signal) -> Signal:
    """Follow attention in windows of frames, `(batch, time, height, width, channels)`."""
    x = attention.last_alone(channels, x, "attention in windows")
    _, frames, height, width, _ = x.shape
    sides = zip((frames, height, width), block.window_size, strict=True)
    late, below, right = (-side % min(side, part) for side, part in sides)
    padded = channels.apply(F.pad, x, (0, 0, 0, right, 0, below, 0, late))
    out, heads = attention.follow(channels, padded, block.num_heads, block.qkv, block.proj)
    channels.bind(block.relative_position_bias_table, 1, heads)
    return Signal(out.meta[:, :frames, :height, :width], out.ids)


def write_attention(block: Any, name: str, writer: Writer) -> BlockSource:
    """Write the attention as a class whose width need not be that of its heads together."""
    call = attention_call("ShiftedWindowAttention3d", block, writer)
    call = replace(call, defaults={**call.defaults, "shift_size": (0, 0, 0)})
    texts = {
        part: inspect.getsource(getattr(written_video, part)) for part in (*_PARTS, call.function)
    }
    return BlockSource(call, texts, _IMPORTS)
