"""torchvision's `EncoderBlock` and `MLPBlock`: how channels run through, and how they are written.

After Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at
Scale", 2020, arXiv 2010.11929, and torchvision's `vision_transformer.py`.
"""

from __future__ import annotations

import functools
from typing import Any

from torch import nn

from prunecore.plugin import BlockSource, Call, Channels, LazyClasses, Signal, Writer, is_like
from prunecore_vit import attention
from prunecore_vit.written.transformers import Encoder, EncoderBlock, SelfAttention

MODULE = "torchvision.models.vision_transformer"
DEFAULTS = {"dropout": 0.0, "attention_dropout": 0.0, "eps": 1e-6}
# torchvision's classes, and those of torch that they hold, by what they are written as
ALIKE: LazyClasses[type[nn.Module]] = LazyClasses(
    {
        f"{MODULE}.Encoder": Encoder,
        f"{MODULE}.EncoderBlock": EncoderBlock,
        f"{MODULE}.MLPBlock": nn.Sequential,
        "torch.nn.MultiheadAttention": SelfAttention,
        "torch.nn.modules.linear.NonDynamicallyQuantizableLinear": nn.Linear,
    }
)
_NAMES = ("width", "heads", "head_width", "mlp_width")


def follow_block(block: Any, inputs: tuple[Any, ...], channels: Channels) -> Signal:
    """Attention and MLP in turn, each with a norm before it and a shortcut around both."""
    if block_arguments(block) is None:
        return channels.trace(block, *inputs)  # type: ignore[no-any-return]
    (x,) = inputs
    y = channels.through(block.ln_1, x)
    y, _ = channels.through(block.self_attention, y, y, y, need_weights=False)
    x = channels.couple(channels.through(block.dropout, y), x)
    y = channels.through(block.mlp, channels.through(block.ln_2, x))
    return channels.couple(x, y)


def follow_mlp(block: Any, inputs: tuple[Any, ...], channels: Channels) -> Signal:
    """One layer after the other, as in the nn.Sequential that it is."""
    (x,) = inputs
    for layer in block:
        x = channels.through(layer, x)
    return x  # type: ignore[no-any-return]


def write_block(block: Any, name: str, writer: Writer) -> BlockSource:
    """Write a block with the usual layers by hand, any other as its forward is."""
    arguments = block_arguments(block)
    if arguments is None:
        return writer.trace(block, name)
    for number, value in enumerate(attention.sizes(block.self_attention, writer)):
        arguments[_NAMES[number]] = value
    arguments["mlp_width"] = writer.width(block.mlp[0].weight, 0)
    by_place = tuple(arguments.pop(key) for key in _NAMES)
    return writer.source(Call("EncoderBlock", by_place, arguments, DEFAULTS, _NAMES), EncoderBlock)


def write_mlp(block: Any, name: str, writer: Writer) -> BlockSource:
    """Write the nn.Sequential that it is."""
    layers = (writer.child(layer, f"{name}.{key}") for key, layer in block._modules.items())
    return BlockSource(Call("nn.Sequential", tuple(layers)))


def block_arguments(block: Any) -> dict[str, Any] | None:
    """What the written class makes the original block of; `None` where it would be another."""
    inner = block.self_attention
    linear = next((layer for layer in block.mlp.children() if type(layer) is nn.Linear), None)
    if type(inner) is not nn.MultiheadAttention or not inner.batch_first or linear is None:
        return None
    arguments = {
        "width": inner.embed_dim,
        "heads": inner.num_heads,
        "head_width": inner.head_dim,
        "mlp_width": linear.out_features,
        "dropout": getattr(block.dropout, "p", 0.0),
        "attention_dropout": inner.dropout,
        "eps": getattr(block.ln_1, "eps", 0.0),
    }
    return (
        arguments
        if is_like(block, functools.partial(EncoderBlock, **arguments), ALIKE.found())
        else None
    )
