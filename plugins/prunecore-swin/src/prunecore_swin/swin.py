"""torchvision's Swin blocks: how channels run through, and how they are written.

After Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", 2021,
arXiv 2103.14030, and torchvision's `swin_transformer.py`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from prunecore.plugin import BlockSource, Call, Channels, Signal, Writer, along, is_like
from prunecore_swin import attention
from prunecore_swin.written import swin as written

_DEFAULTS = {
    "shift_size": (0, 0),
    "attention_dropout": 0.0,
    "dropout": 0.0,
    "qkv_bias": True,
    "proj_bias": True,
    "out_width": None,
}


def follow_attention(block: Any, channels: Channels, x: Signal) -> Signal:
    """Follow attention in windows with a table of position biases, one column a head."""
    out, heads = follow_windows(block, channels, x, block.window_size)
    channels.bind(block.relative_position_bias_table, 1, heads)
    return out


def follow_windows(
    block: Any, channels: Channels, x: Signal, window: Sequence[int]
) -> tuple[Signal, Any]:
    """Follow attention in windows; returns what it makes, and one id a head.

    Args:
        block: the attention.
        channels: the walk.
        x: an image or a video, its channels along the last axis.
        window: the lengths of a window's sides, in the order of the axes after the batch.
    """
    x = attention.last_alone(channels, x, "attention in windows")
    sides = x.shape[1:-1]
    added = [-side % part for side, part in zip(sides, window, strict=True)]
    padding = [places for after in reversed(added) for places in (0, after)]
    padded = channels.apply(F.pad, x, (0, 0, *padding))
    places = math.prod(window)
    out, heads = attention.follow(channels, padded, block.num_heads, places, block.qkv, block.proj)
    meta = out.meta[(slice(None), *map(slice, sides))]
    return Signal(meta, out.ids), heads


def write_attention(block: Any, name: str, writer: Writer) -> BlockSource:
    """Write the attention as a class whose width need not be that of its heads together."""
    call = attention_call("ShiftedWindowAttention", block, writer)
    return writer.source(call, written.ShiftedWindowAttention)


def follow_attention_v2(block: Any, channels: Channels, x: Signal) -> Signal:
    """Follow attention by cosines, its position biases made by a small MLP, one output a head."""
    out, heads = follow_windows(block, channels, x, block.window_size)
    channels.bind(block.logit_scale, 0, heads)
    table = channels.stored(block, "relative_coords_table")
    bias = channels.axis(channels.through(block.cpb_mlp, table), 3)
    if bias is not None:  # more than one head
        channels.join(bias, heads)
    return out


def write_attention_v2(block: Any, name: str, writer: Writer) -> BlockSource:
    """Write the attention of the second version."""
    call = attention_call("ShiftedWindowAttentionV2", block, writer)
    width, heads, head_width, window = call.positional
    by_place = (width, heads, head_width, writer.width(block.cpb_mlp[0].weight, 0), window)
    names = ("width", "heads", "head_width", "bias_width", "window_size")
    call = replace(call, positional=by_place, names=names)
    return writer.source(call, written.ShiftedWindowAttentionV2)


def attention_call(function: str, block: Any, writer: Writer) -> Call:
    """The constructor call of an attention in windows."""
    head_width = block.proj.in_features // block.num_heads
    *by_place, out_width = attention.sizes(writer, block.qkv, block.proj, head_width)
    keywords = {
        "shift_size": tuple(block.shift_size),
        "attention_dropout": block.attention_dropout,
        "dropout": block.dropout,
        "qkv_bias": block.qkv.bias is not None,
        "proj_bias": block.proj.bias is not None,
        "out_width": out_width,
    }
    names = ("width", "heads", "head_width", "window_size")
    return Call(function, (*by_place, tuple(block.window_size)), keywords, _DEFAULTS, names)


def follow_merging(block: Any, channels: Channels, x: Signal) -> Signal:
    """Follow the norm and reduction of two by two places, their channels one after another."""
    if _written_merging(block) is None:
        return channels.trace(block, x)  # type: ignore[no-any-return]
    merged = channels.through(block.norm, _side_by_side(x, channels))
    return channels.through(block.reduction, merged)  # type: ignore[no-any-return]


def follow_merging_v2(block: Any, channels: Channels, x: Signal) -> Signal:
    """Follow the reduction of two by two places and the norm after it."""
    if _written_merging(block) is None:
        return channels.trace(block, x)  # type: ignore[no-any-return]
    reduced = channels.through(block.reduction, _side_by_side(x, channels))
    return channels.through(block.norm, reduced)  # type: ignore[no-any-return]


def _side_by_side(x: Signal, channels: Channels) -> Signal:
    x = attention.last_alone(channels, x, "patch merging")
    *batch, height, width, count = x.shape
    meta = x.meta.new_empty((*batch, (height + 1) // 2, (width + 1) // 2, 4 * count))
    ids = channels.axis(x, x.ndim - 1)
    return Signal(meta, x.ids if ids is None else along(-1, x.ndim, np.tile(ids, 4)))


def write_merging(block: Any, name: str, writer: Writer) -> BlockSource:
    """Write the merging of two by two places, of either version."""
    cls = _written_merging(block)
    if cls is None:
        return writer.trace(block, name)
    width = writer.width(block.reduction.weight, 1) // 4
    by_place = (width, writer.width(block.reduction.weight, 0))
    keywords = {"eps": block.norm.eps}
    call = Call(cls.__name__, by_place, keywords, {"eps": 1e-5}, ("width", "out_width"))
    return writer.source(call, cls)


def _written_merging(block: Any) -> type[nn.Module] | None:
    """The class that makes the layers of a merging; `None` where they are others."""
    known = (written.PatchMerging, written.PatchMergingV2)
    names = [cls.__name__ for cls in type(block).__mro__]
    cls = next(cls for cls in known if cls.__name__ in names)
    if type(block.reduction) is not nn.Linear:
        return None
    sizes = (block.reduction.in_features // 4, block.reduction.out_features)
    eps = getattr(block.norm, "eps", 0.0)
    return cls if is_like(block, functools.partial(cls, *sizes, eps)) else None


def follow_permute(block: Any, channels: Channels, x: Signal) -> Signal:
    """The axes change places."""
    return channels.apply(torch.permute, x, block.dims)  # type: ignore[no-any-return]


def write_permute(block: Any, name: str, writer: Writer) -> BlockSource:
    """Write torchvision's module for `torch.permute`."""
    call = Call("Permute", (list(block.dims),), names=("dims",))
    return writer.source(call, written.Permute)
