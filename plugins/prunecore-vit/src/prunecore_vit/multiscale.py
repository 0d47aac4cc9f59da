"""torchvision's `MultiscaleAttention`: how channels run through, and how it is written.

After Li et al., "MViTv2: Improved Multiscale Vision Transformers for Classification and Detection",
2022, arXiv 2112.01526, and torchvision's `video/mvit.py`. All heads go through the same pools and
read the same tables of relative positions: a channel goes at its place in every head.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from prunecore.plugin import BlockSource, Call, Channels, Signal, Writer, along, count_product
from prunecore_vit.written.multiscale import MultiscaleAttention

_DEFAULTS = {
    "pool_q": None,
    "pool_k": None,
    "pool_v": None,
    "residual_pool": False,
    "residual_with_cls_embed": False,
}
_NAMES = ("width", "heads", "head_width")


def follow(block: Any, inputs: tuple[Any, ...], channels: Channels) -> tuple[Signal, Any]:
    """Follow the attention; where it is another, its forward shows what it does."""
    if not _is_usual(block):
        return channels.trace(block, *inputs)  # type: ignore[no-any-return]
    x, thw = inputs
    x = channels.pin_axes(x, (0, 1), "attention")
    made = channels.axis(channels.through(block.qkv, x), 2)
    assert made is not None  # a layer of three outputs or more
    by_head = made.reshape(3, block.num_heads, -1)
    place = np.ascontiguousarray(by_head[0, 0])
    channels.join(np.broadcast_to(place, by_head.shape), by_head)

    batch, length, _ = x.shape
    meta = x.meta.new_empty((batch, block.num_heads, length, len(place)))
    each = Signal(meta, along(3, 4, place))
    pools = (block.pool_q, block.pool_k, block.pool_v)
    pooled = [(each, thw) if pool is None else channels.through(pool, each, thw) for pool in pools]
    for signal, _ in pooled:
        own = channels.axis(signal, 3)
        channels.join(place, place if own is None else own)
    for table in (block.rel_pos_h, block.rel_pos_w, block.rel_pos_t):
        channels.bind(table, 1, place)

    q, thw = pooled[0]
    inner = np.tile(place, block.num_heads)
    # queries meet keys, and what comes of that meets values
    compared = q.shape[0] * q.shape[2] * pooled[1][0].shape[2] * len(inner)
    count_product(channels, 2 * compared, inner)
    meta = x.meta.new_empty((batch, q.shape[2], len(place) * block.num_heads))
    out = Signal(meta, along(2, 3, inner))
    return channels.through(block.project, out), thw


def write(block: Any, name: str, writer: Writer) -> BlockSource:
    """Write the attention as a class whose width need not be that of its heads together."""
    if not _is_usual(block):
        return writer.trace(block, name)
    children = {
        key: child and writer.child(child, f"{name}.{key}")
        for key, child in block._modules.items()
        if key.startswith("pool") or key == "project"
    }
    keywords = {
        "scale": block.scaler,
        "positions": tuple(map(len, (block.rel_pos_t, block.rel_pos_h, block.rel_pos_w))),
        **children,
        "residual_pool": block.residual_pool,
        "residual_with_cls_embed": block.residual_with_cls_embed,
    }
    width, head_width = writer.width(block.qkv.weight, 1), writer.width(block.rel_pos_h, 1)
    call = Call(
        "MultiscaleAttention", (width, block.num_heads, head_width), keywords, _DEFAULTS, _NAMES
    )
    return writer.source(call, MultiscaleAttention)


def _is_usual(block: Any) -> bool:
    """True if it adds relative positions, and one plain layer makes queries, keys and values."""
    has_bias = type(block.qkv) is nn.Linear and block.qkv.bias is not None
    return has_bias and block.rel_pos_h is not None
