"""torchvision's attention of MaxViT: how channels run through, and how it is written.

After Tu et al., "MaxViT: Multi-Axis Vision Transformer", 2022, arXiv 2204.01697, and torchvision's
`maxvit.py`.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

from prunecore.plugin import BlockSource, Call, Channels, LazyClasses, Signal, Writer, is_like
from prunecore_swin import attention
from prunecore_swin.written.maxvit import (
    PartitionAttentionLayer,
    RelativePositionalMultiHeadAttention,
    SwapAxes,
    WindowDepartition,
    WindowPartition,
)


def follow_attention(block: Any, channels: Channels, x: Signal) -> Signal:
    """Follow attention in windows, `(batch, windows, places, channels)`."""
    if not _is_usual_attention(block):
        return channels.trace(block, x)  # type: ignore[no-any-return]
    x = attention.last_alone(channels, x, "attention in windows")
    out, heads = attention.follow(
        channels, x, block.n_heads, x.shape[-2], block.to_qkv, block.merge
    )
    channels.bind(block.relative_position_bias_table, 1, heads)
    return out


def write_attention(block: Any, name: str, writer: Writer) -> BlockSource:
    """Write the attention as a class whose width need not be that of its heads together."""
    if not _is_usual_attention(block):
        return writer.trace(block, name)
    *by_place, out_width = attention.sizes(writer, block.to_qkv, block.merge, block.head_dim)
    call = Call(
        "RelativePositionalMultiHeadAttention",
        (*by_place, block.size),
        {"scale_width": block.to_qkv.in_features, "out_width": out_width},
        {"out_width": None},
        ("width", "heads", "head_width", "size"),
    )
    return writer.source(call, RelativePositionalMultiHeadAttention)


def follow_partition(block: Any, channels: Channels, x: Signal, p: int) -> Signal:
    """From `(batch, channels, height, width)` to `(batch, windows, places, channels)`."""
    meta = channels.run(block.forward, x, p)
    x = channels.pin_axes(x, (0, 2, 3), "partition into windows")
    return Signal(meta, x.ids.transpose(0, 2, 3, 1))


def follow_departition(
    block: Any, channels: Channels, x: Signal, p: int, h_partitions: int, w_partitions: int
) -> Signal:
    """From `(batch, windows, places, channels)` to `(batch, channels, height, width)`."""
    meta = channels.run(block.forward, x, p, h_partitions, w_partitions)
    x = attention.last_alone(channels, x, "partition into windows")
    return Signal(meta, x.ids.transpose(0, 3, 1, 2))


def follow_swap(block: Any, channels: Channels, x: Signal) -> Signal:
    """Two axes change places."""
    return channels.apply(torch.swapaxes, x, block.a, block.b)  # type: ignore[no-any-return]


def write_plain(block: Any, name: str, writer: Writer) -> BlockSource:
    """Write a class that takes no arguments."""
    known = (WindowPartition, WindowDepartition)
    names = [cls.__name__ for cls in type(block).__mro__]
    written = next(cls for cls in known if cls.__name__ in names)
    return writer.source(Call(written.__name__), written)


def write_swap(block: Any, name: str, writer: Writer) -> BlockSource:
    """Write torchvision's module for `torch.swapaxes`."""
    return writer.source(Call("SwapAxes", (block.a, block.b), names=("a", "b")), SwapAxes)


def follow_layer(block: Any, channels: Channels, x: Signal) -> Signal:
    """Attention and MLP in turn on windows, each with a shortcut."""
    if not _is_usual(block):
        return channels.trace(block, x)  # type: ignore[no-any-return]
    x = channels.through(block.partition_op, x, block.p)
    x = channels.through(block.partition_swap, x)
    for branch in (block.attn_layer, block.mlp_layer):
        out = channels.through(block.stochastic_dropout, channels.through(branch, x))
        x = channels.couple(x, out)
    x = channels.through(block.departition_swap, x)
    down, right = (side // block.p for side in block.grid_size)
    return channels.through(  # type: ignore[no-any-return]
        block.departition_op, x, block.p, down, right
    )


def write_layer(block: Any, name: str, writer: Writer) -> BlockSource:
    """Write a layer of the usual parts by hand, any other as its forward is."""
    if not _is_usual(block):
        return writer.trace(block, name)
    inner = block.attn_layer[1]
    *sizes, _ = attention.sizes(writer, inner.to_qkv, inner.merge, inner.head_dim)
    drop = writer.child(block.stochastic_dropout, f"{name}.stochastic_dropout")
    keywords = _options(block) | {
        "scale_width": inner.to_qkv.in_features,
        "stochastic_dropout": drop,
    }
    by_place = (*sizes, writer.width(block.mlp_layer[1].weight, 0))
    names = ("width", "heads", "head_width", "mlp_width")
    call = Call("PartitionAttentionLayer", by_place, keywords, _DEFAULTS, names)
    return writer.source(call, PartitionAttentionLayer)


def _is_usual(block: Any) -> bool:
    """True if a layer's parts are those that the written class makes."""
    branches = [block.attn_layer, block.mlp_layer]
    if [type(branch) for branch in branches] != [nn.Sequential] * 2:
        return False
    if list(map(len, branches)) != [3, 5]:
        return False
    inner: Any = block.attn_layer[1]
    if type(inner) not in _ALIKE or not _is_usual_attention(inner):
        return False
    sizes = (inner.to_qkv.in_features, inner.n_heads, inner.head_dim)
    hidden = getattr(block.mlp_layer[1], "out_features", 0)
    options = _options(block) | {"scale_width": 1, "stochastic_dropout": block.stochastic_dropout}
    return is_like(
        block, functools.partial(PartitionAttentionLayer, *sizes, hidden, **options), _ALIKE.found()
    )


def _is_usual_attention(block: Any) -> bool:
    """True if an attention's layers are those that the written class makes."""
    layers = (block.to_qkv, block.merge)
    if not all(type(layer) is nn.Linear for layer in layers):
        return False
    sizes = (block.to_qkv.in_features, block.n_heads, block.head_dim, block.size, 1)
    out_width = block.merge.out_features
    return is_like(
        block, functools.partial(RelativePositionalMultiHeadAttention, *sizes, out_width)
    )


def _options(block: Any) -> dict[str, Any]:
    """The arguments that are no widths."""
    return {
        "p": block.p,
        "size": block.attn_layer[1].size,
        "grid": not isinstance(block.partition_swap, nn.Identity),
        "attention_dropout": getattr(block.attn_layer[2], "p", 0.0),
        "mlp_dropout": getattr(block.mlp_layer[4], "p", 0.0),
    }


_WRITTEN = (RelativePositionalMultiHeadAttention, WindowPartition, WindowDepartition, SwapAxes)
_ALIKE = LazyClasses({f"torchvision.models.maxvit.{cls.__name__}": cls for cls in _WRITTEN})
_DEFAULTS = {"grid": False, "attention_dropout": 0.0, "mlp_dropout": 0.0}
