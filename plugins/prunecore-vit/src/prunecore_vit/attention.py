"""`nn.MultiheadAttention`: how channels run through, and how it is written.

After Vaswani et al., "Attention Is All You Need", 2017, arXiv 1706.03762. A head goes as a whole:
its rows of query, key and value, and its columns of the output's projection.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from torch import Tensor, nn

from prunecore.plugin import BlockSource, Call, Channels, Signal, Writer, along, count_product
from prunecore_vit.written.transformers import MultiheadAttention

_DEFAULTS = {"dropout": 0.0, "bias": True, "batch_first": False, "out_width": None}


def calculate(block: Any, inputs: tuple[Any, ...], channels: Channels) -> tuple[Signal, Any]:
    """Follow the attention from queries, keys and values to what it returns.

    Args:
        block: an `nn.MultiheadAttention`.
        inputs: query, key and value, `(batch, length, width)` with `batch_first`, else `(length,
            batch, width)`; then its other arguments in order.
        channels: the walk.
    """
    given = _arguments(block, inputs)
    if _is_unusual(block, given):
        return channels.trace(block, *inputs)  # type: ignore[no-any-return]
    # what lies along the batch and the length is attended as a whole
    sources = [channels.pin_axes(signal, (0, 1), "attention") for signal in inputs[:3]]
    x, key, _ = sources
    heads = channels.fresh(block.num_heads)
    if block.num_heads == 1:
        channels.pin(heads, "it is the only head")
    inner = np.repeat(heads, block.head_dim)
    for tensor in (block.in_proj_weight, block.in_proj_bias):
        channels.bind(tensor, 0, np.tile(inner, 3), filters=tensor is block.in_proj_weight)
    for entering in _entering(sources, channels):
        channels.bind(block.in_proj_weight, 1, entering)
    length = 1 if block.batch_first else 0
    # each of the three parts has its own length; the same for all in self-attention
    used = sum(signal.shape[length] for signal in sources) // 3
    channels.count_macs(block.in_proj_weight, used)
    # queries meet keys, and what comes of that meets values
    compared = x.shape[0] * x.shape[1] * key.shape[length] * len(inner)
    count_product(channels, 2 * compared, inner)

    meta = x.meta.new_empty((*x.shape[:2], len(inner)))
    out = channels.through(block.out_proj, Signal(meta, along(2, 3, inner)))
    if not given["need_weights"]:
        return out, None
    return out, _weights(block, x, key, heads, given, channels)


def write(block: Any, name: str, writer: Writer) -> BlockSource:
    """Write the attention as a class whose width need not be that of its heads together."""
    if _is_unusual(block, _arguments(block, writer.first_call(name).inputs)):
        return writer.trace(block, name)
    keywords = {key: getattr(block, key) for key in ("dropout", "batch_first")}
    keywords["bias"] = block.in_proj_bias is not None
    width, heads, head_width = sizes(block, writer)
    out_width = writer.width(block.out_proj.weight, 0)
    keywords["out_width"] = None if out_width == width else out_width
    names = ("width", "heads", "head_width")
    call = Call("MultiheadAttention", (width, heads, head_width), keywords, _DEFAULTS, names)
    return writer.source(call, MultiheadAttention)


def sizes(block: Any, writer: Writer) -> tuple[int, int, int]:
    """The kept width, the kept number of heads, and the width of each."""
    inner = writer.width(block.out_proj.weight, 1)
    return writer.width(block.in_proj_weight, 1), inner // block.head_dim, block.head_dim


def _arguments(block: Any, inputs: tuple[Any, ...]) -> dict[str, Any]:
    """What the attention is called with, by name."""
    call = inspect.signature(block.forward).bind(*inputs)
    call.apply_defaults()
    return call.arguments


def _is_unusual(block: Any, arguments: dict[str, Any]) -> bool:
    """True if it is not the attention that is written by hand, but what its own forward does."""
    mask = arguments["attn_mask"]
    return (
        not block._qkv_same_embed_dim  # its keys or values have a width of their own
        or block.bias_k is not None
        or block.add_zero_attn
        or arguments["query"].ndim != 3
        or (isinstance(mask, Signal) and mask.ndim != 2)  # it has a part for each head
    )


def _entering(sources: list[Signal], channels: Channels) -> list[Any]:
    """The channels that are read; those of several tensors go together."""
    entering = [channels.axis(signal, 2) for signal in sources]
    if any(ids is None for ids in entering):
        for ids in entering:
            if ids is not None:
                channels.pin(ids, "attention reads a tensor with it of which everything stays")
    return entering


def _weights(
    block: Any,
    query: Signal,
    key: Signal,
    heads: Any,
    arguments: dict[str, Any],
    channels: Channels,
) -> Signal:
    """The weights that it returns: those of each head, or the average of all heads that stay."""
    batch, length = (0, 1) if block.batch_first else (1, 0)
    places = (query.shape[batch], query.shape[length], key.shape[length])
    if not arguments["average_attn_weights"]:
        meta = query.meta.new_empty((places[0], block.num_heads, *places[1:]))
        return Signal(meta, along(1, 4, heads))
    channels.masked_forward(block, heads, _average_of_kept)
    return Signal(query.meta.new_empty(places), np.full((1, 1, 1), -1))


def _average_of_kept(
    module: nn.MultiheadAttention, kept: Tensor, *inputs: Any, **keywords: Any
) -> tuple[Tensor, Tensor]:
    """Average the weights of the heads that stay; those of the others are equal everywhere."""
    call = inspect.signature(nn.MultiheadAttention.forward).bind(module, *inputs, **keywords)
    call.arguments["average_attn_weights"] = False
    answer: tuple[Any, Any] = nn.MultiheadAttention.forward(*call.args, **call.kwargs)
    out, weights = answer
    return out, weights.index_select(1, kept).mean(1)
