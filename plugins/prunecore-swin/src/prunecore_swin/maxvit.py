"""torchvision's attention of MaxViT: how channels run through, and how it is written.

After Tu et al., "MaxViT: Multi-Axis Vision Transformer", 2022, arXiv 2204.01697, and torchvision's
`maxvit.py`.
"""

from __future__ import annotations

import inspect
from typing import Any

from prunecore import BlockSource, Call, Channels, Name, Signal, Writer
from prunecore_swin import attention
from prunecore_swin.written import relative_position_index
from prunecore_swin.written_maxvit import RelativePositionalMultiHeadAttention


def follow(block: Any, x: Signal, channels: Channels) -> Signal:
    """Follow attention in windows, `(batch, windows, places, channels)`."""
    x = attention.last_alone(channels, x, "attention in windows")
    out, heads = attention.follow(channels, x, block.n_heads, block.to_qkv, block.merge)
    channels.bind(block.relative_position_bias_table, 1, heads)
    return out


def write(block: Any, name: str, writer: Writer) -> BlockSource:
    """Write the attention as a class whose width need not be that of its heads together."""
    *by_place, out_width = attention.sizes(writer, block.to_qkv, block.merge, block.head_dim)
    # torchvision scales by the width of all heads, those that went among them
    scale = Name(f"{block.to_qkv.in_features}**-0.5")
    call = Call(
        "RelativePositionalMultiHeadAttention",
        (*by_place, block.size),
        {"scale_factor": scale, "out_width": out_width},
        {"out_width": None},
        ("width", "heads", "head_width", "size"),
    )
    parts = (relative_position_index, RelativePositionalMultiHeadAttention)
    texts = {part.__name__: inspect.getsource(part) for part in parts}
    return BlockSource(call, texts, frozenset({"import torch"}))
