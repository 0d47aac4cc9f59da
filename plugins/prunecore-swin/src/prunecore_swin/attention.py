"""How channels run through attention whose queries, keys and values come from one linear layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from prunecore.plugin import Channels, Signal, Writer, along, count_product

Ids = NDArray[np.int64]


def follow(
    channels: Channels, x: Signal, heads: int, window: int, qkv: nn.Linear, proj: nn.Linear
) -> tuple[Signal, Ids]:
    """Follow the attention: a head goes with its rows of `qkv` and its columns of `proj`.

    Args:
        channels: the walk.
        x: what is attended, its channels along the last axis.
        heads: how many there are.
        window: how many places each one is attended from.
        qkv: makes all heads' queries, then their keys, then their values.
        proj: reads the heads one after another.

    Returns:
        What `proj` makes, and one id a head.
    """
    made = channels.axis(channels.through(qkv, x), x.ndim - 1)
    assert made is not None  # a layer of three outputs or more
    by_head = made.reshape(3, heads, -1)
    head_ids = np.ascontiguousarray(by_head[0, :, 0])
    channels.join(np.broadcast_to(head_ids[:, None], by_head.shape), by_head)
    if heads == 1:
        channels.pin(head_ids, "it is the only head")
    inner = np.repeat(head_ids, by_head.shape[2])
    # queries meet keys, and what comes of that meets values
    count_product(channels, 2 * math.prod(x.shape[:-1]) * window * len(inner), inner)
    meta = x.meta.new_empty((*x.shape[:-1], len(inner)))
    return channels.through(proj, Signal(meta, along(-1, x.ndim, inner))), head_ids


def sizes(
    writer: Writer, qkv: nn.Linear, proj: nn.Linear, head_width: int
) -> tuple[int, int, int, int | None]:
    """The kept width, the kept number of heads, the width of each, and the kept output's width.

    The last is `None` where it is the width.
    """
    width, out_width = writer.width(qkv.weight, 1), writer.width(proj.weight, 0)
    heads = writer.width(proj.weight, 1) // head_width
    return width, heads, head_width, None if out_width == width else out_width


def last_alone(channels: Channels, x: Signal, operation: Any) -> Signal:
    """The same tensor; channels along other axes than the last are left whole."""
    return channels.pin_axes(x, range(x.ndim - 1), operation)
