"""The layer that looks rows of a table up, and the function that does."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunecore.plugin import Channels, Operation, Signal, along
from prunecore_sequential.rules import Ids, Rule, declare, hold_single


def embedding(channels: Channels, layer: nn.Embedding, x: Signal) -> Signal:
    """New channels along a last axis: the columns of the table, of which all rows stay."""
    signal, ids = _looked_up(channels, x, layer.weight, layer.max_norm)
    channels.width(layer, "embedding_dim", ids)
    return signal


def of_call(channels: Channels, operation: Operation) -> Signal:
    """The function, given a table that the calling module holds."""
    table: Signal = operation.argument(1, "weight")
    weight = table if table.parameter is None else table.parameter
    max_norm = operation.argument(3, "max_norm")
    signal, ids = _looked_up(channels, operation.tensor, weight, max_norm)
    declare(channels, weight, embedding_dim=ids)
    return signal


def _looked_up(
    channels: Channels, x: Signal, weight: Tensor | Signal, max_norm: float | None
) -> tuple[Signal, Ids]:
    """Rows of a table, and the channels along it."""
    indices = x.meta if x.parameter is None else x.parameter
    if indices.is_floating_point():
        channels.refuse(
            "it looks up rows by what are floating point numbers",
            "Give the network whole numbers: tokens as example inputs, or "
            f"--input 'tokens:int64[128]<{weight.shape[0]}'.",
        )
    if max_norm is not None:
        channels.refuse(
            "it scales its rows to a norm when it is called, which removing channels changes",
            "Make it without max_norm.",
        )
    x = channels.pin_axes(x, x.channel_axes, "Embedding")
    rows, width = weight.shape
    meta = channels.run(F.embedding, x.meta.long(), torch.empty(rows, width, device="meta"))
    ids = hold_single(channels, channels.fresh(width))
    channels.bind(weight, 0, None)
    channels.bind(weight, 1, ids, filters=True)
    return Signal(meta, along(-1, meta.ndim, ids)), ids


RULES: Mapping[type[nn.Module], Rule] = {nn.Embedding: embedding}
