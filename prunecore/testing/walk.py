"""A walk through a block in a network of its own, for the checks to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from prunecore.channels.dependencies import ChannelArray, Dependencies, merge
from prunecore.channels.ids import Ids, along, without_channels
from prunecore.channels.signal import Signal
from prunecore.inputs import BATCH
from prunecore.registry import Plugins
from prunecore.walking.network import join_ways
from prunecore.walking.walk import Walk

PATH = "block"  # of the block in its network


class Network(nn.Module):
    """A network of one block, so that the block has a path."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *inputs: Any) -> Any:
        """What the block returns."""
        return self.block(*inputs)


@dataclass(frozen=True)
class Followed:
    """What a walk through a block found.

    Attributes:
        dependencies: its channels; those of its inputs may go, too.
        inputs: a `Signal` for each of its inputs.
        outputs: a `Signal` for each tensor that it returns.
        reasons: why a channel always stays, by channel.
    """

    dependencies: Dependencies
    inputs: tuple[Signal, ...]
    outputs: tuple[Signal, ...]
    reasons: dict[int, str]

    def stays(self, ids: Ids) -> ChannelArray:
        """The channel at each place, -1 for all that always stay."""
        channels = self.dependencies.channel_of[ids]
        removable = np.append(self.dependencies.removable, False)
        return np.where(removable[channels], channels, -1)


def follow(
    network: Network,
    shapes: Sequence[Sequence[int]],
    plugins: Plugins,
    traced: bool,
    axis: int = 1,
) -> Followed:
    """Walk through the block of a network.

    Args:
        network: the block's network.
        shapes: of the block's inputs, without the batch.
        plugins: the loaded plugins.
        traced: whether its own forward is traced, whoever owns its class.
        axis: the one along which the inputs' channels lie; the batch is axis 0.
    """
    channels = Walk(network, plugins)
    inputs = tuple(_entering(channels, shape, axis) for shape in shapes)
    if traced:
        output = channels.trace(network.block, *inputs)
    else:
        output = channels.through(network, *inputs)
    join_ways(channels, None, plugins)
    found = merge(network, channels.records)
    reasons: dict[int, str] = {}
    for ids, reason in channels.records.pins:
        for channel in np.unique(found.channel_of[ids]).tolist():
            reasons.setdefault(channel, reason)
    removable = found.removable.copy()
    for signal in inputs:
        entering = found.channel_of[signal.ids.ravel()]
        removable[entering[entering >= 0]] = True
    removable[[channel for channel in reasons if channel >= 0]] = False
    outputs = tuple(leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Signal))
    return Followed(replace(found, removable=removable), inputs, outputs, reasons)


def _entering(channels: Walk, shape: Sequence[int], axis: int) -> Signal:
    """An input whose channels may go as if a layer had made them."""
    meta = torch.empty((BATCH, *shape), device="meta")
    if meta.ndim < 2 or meta.shape[axis] == 1:
        return Signal(meta, without_channels(meta.ndim))
    return Signal(meta, along(axis % meta.ndim, meta.ndim, channels.fresh(meta.shape[axis])))
