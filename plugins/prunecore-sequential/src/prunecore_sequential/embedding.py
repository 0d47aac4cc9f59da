"""The layer that looks rows of a table up."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import nn

from prunecore.plugin import Channels, Signal, along
from prunecore_sequential.rules import Rule, hold_single


def embedding(channels: Channels, layer: nn.Embedding, x: Signal) -> Signal:
    """New channels along a last axis: the columns of the table, of which all rows stay."""
    indices = x.meta if x.parameter is None else x.parameter
    if indices.is_floating_point():
        channels.refuse(
            "it looks up rows by what are floating point numbers, as inputs are",
            "Prune the part of the network that follows it (--module PATH), or look up by "
            "integers that are a buffer.",
        )
    if layer.max_norm is not None:
        channels.refuse(
            "it scales its rows to a norm when it is called, which removing channels changes",
            "Make it without max_norm.",
        )
    x = channels.pin_axes(x, x.channel_axes, "Embedding")
    meta = channels.run(F.embedding, x.meta.long(), layer.weight.to("meta"))
    ids = hold_single(channels, channels.fresh(layer.embedding_dim))
    channels.bind(layer.weight, 1, ids, filters=True)
    channels.width(layer, "embedding_dim", ids)
    return Signal(meta, along(-1, meta.ndim, ids))


RULES: Mapping[type[nn.Module], Rule] = {nn.Embedding: embedding}
