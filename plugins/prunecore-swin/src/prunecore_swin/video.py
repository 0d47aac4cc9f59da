"""torchvision's Swin attention for videos: how channels run through, and how it is written.

After Liu et al., "Video Swin Transformer", 2021, arXiv 2106.13230, and torchvision's
`video/swin_transformer.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prunecore.plugin import BlockSource, Channels, Signal, Writer
from prunecore_swin.swin import attention_call, follow_windows
from prunecore_swin.written.video import ShiftedWindowAttention3d


def follow_attention(block: Any, channels: Channels, x: Signal) -> Signal:
    """Follow attention in windows of frames, `(batch, time, height, width, channels)`."""
    window = list(map(min, x.shape[1:-1], block.window_size))
    out, heads = follow_windows(block, channels, x, window)
    channels.bind(block.relative_position_bias_table, 1, heads)
    return out


def write_attention(block: Any, name: str, writer: Writer) -> BlockSource:
    """Write the attention as a class whose width need not be that of its heads together."""
    call = attention_call("ShiftedWindowAttention3d", block, writer)
    call = replace(call, defaults={**call.defaults, "shift_size": (0, 0, 0)})
    return writer.source(call, ShiftedWindowAttention3d)
