"""torchvision's `VisionTransformer`: how a usual one is written, its widths in lists.

After Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at
Scale", 2020, arXiv 2010.11929, and torchvision's `vision_transformer.py`.
"""

from __future__ import annotations

import functools
from typing import Any

from torch import nn

from prunecore.plugin import BlockSource, Call, Channels, Signal, Writer, is_like
from prunecore_vit import attention
from prunecore_vit.torchvision_blocks import ALIKE, DEFAULTS, block_arguments
from prunecore_vit.written.transformers import Encoder, EncoderBlock, VisionTransformer


def follow(network: Any, inputs: tuple[Any, ...], channels: Channels) -> Signal:
    """Its forward can be followed as it is."""
    return channels.trace(network, *inputs)  # type: ignore[no-any-return]


def write(network: Any, name: str, writer: Writer) -> BlockSource:
    """Write a network of the usual blocks by hand, any other as its forward is."""
    arguments = _arguments(network)
    prefix = f"{name}." if name else ""
    if arguments is None or any(path.startswith(prefix) for path in writer.keep.left_out):
        return writer.trace(network, name)
    blocks = list(network.encoder.layers)
    sizes = [attention.sizes(block.self_attention, writer) for block in blocks]
    arguments |= {
        "width": writer.width(network.class_token, 2),
        "attention_heads": [heads for _, heads, _ in sizes],
        "mlp_widths": [writer.width(block.mlp[0].weight, 0) for block in blocks],
        "num_classes": writer.width(network.heads.head.weight, 0),
    }
    return writer.source(Call("VisionTransformer", (), arguments, DEFAULTS), VisionTransformer)


def _arguments(network: Any) -> dict[str, Any] | None:
    """What the written class makes the original of; `None` where it would be another."""
    head = getattr(network.heads, "head", None)
    known = ALIKE.found()
    if known.get(type(network.encoder)) is not Encoder or not isinstance(head, nn.Linear):
        return None
    blocks = [
        block_arguments(block) if known.get(type(block)) is EncoderBlock else None
        for block in network.encoder.layers
    ]
    if not blocks or blocks.count(blocks[0]) < len(blocks) or blocks[0] is None:
        return None
    options = dict(blocks[0])
    heads, mlp_width = options.pop("heads"), options.pop("mlp_width")
    arguments = {
        "image_size": network.image_size,
        "patch_size": network.patch_size,
        "width": options.pop("width"),
        "attention_heads": [heads] * len(blocks),
        "head_width": options.pop("head_width"),
        "mlp_widths": [mlp_width] * len(blocks),
        "num_classes": head.out_features,
        **options,
    }
    fixed: dict[str, Any] = {
        key: tuple(x) if isinstance(x, list) else x for key, x in arguments.items()
    }
    other = functools.partial(VisionTransformer, **fixed)  # hashable: it is made once
    return arguments if is_like(network, other, known) else None
