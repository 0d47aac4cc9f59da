"""What weights that make channels do, whether a module holds them or a function is given them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from prunecore.plugin import Channels, Signal, along, count_product
from prunecore_sequential.rules import (
    Ids,
    couple_groups,
    couple_positions,
    hold_single,
    whole_groups,
)


@dataclass(frozen=True)
class Kernel:
    """The weights of a convolution or a linear layer.

    Attributes:
        weight: `(out, in / groups, *kernel)`, or `(in, out / groups, *kernel)` where transposed.
        bias: one a channel that is made.
        groups: how many groups of channels are apart.
        filters: the axis of the weight that makes channels; 1 where it is transposed.
    """

    weight: Tensor | Signal
    bias: Tensor | Signal | None
    groups: int = 1
    filters: int = 0

    @property
    def width(self) -> tuple[int, int]:
        """How many channels are read and made."""
        apart = self.weight.shape[1] * self.groups
        there = self.weight.shape[0]
        return (apart, there) if self.filters == 0 else (there, apart)


@dataclass(frozen=True)
class Made:
    """What a layer makes.

    Attributes:
        signal: the tensor.
        entering: the channels that it reads; `None` where there are none.
        leaving: the channels that it makes.
        units: one channel of each group, where whole groups go.
    """

    signal: Signal
    entering: Ids | None
    leaving: Ids
    units: Ids | None = None


def multiply(channels: Channels, kernel: Kernel, x: Signal, meta: Tensor) -> Made | None:
    """New channels along the last axis; `None` where others than the features are followed.

    Args:
        channels: the walk.
        kernel: of a linear layer.
        x: what it reads.
        meta: what it returns, on the meta device.
    """
    ids_in = channels.read(x, x.ndim - 1)
    beside = [axis for axis in x.channel_axes if axis != x.ndim - 1]
    along_others = channels.axis(x, beside[0]) if ids_in is None and beside else None
    channels.count_macs(kernel.weight, math.prod(x.shape[1:-1]), along_others)
    if along_others is not None:
        return None
    ids_out = hold_single(channels, channels.fresh(kernel.weight.shape[0]))
    channels.bind(kernel.weight, 0, ids_out, filters=True)
    channels.bind(kernel.weight, 1, ids_in)
    channels.bind(kernel.bias, 0, ids_out)
    return Made(Signal(meta, along(meta.ndim - 1, meta.ndim, ids_out)), ids_in, ids_out)


def convolve(channels: Channels, kernel: Kernel, x: Signal, meta: Tensor) -> Made | None:
    """New channels along the axis before the places; `None` where others are apart in it.

    These lie along the first axis, as attention's heads do that are merged with the batch.

    Args:
        channels: the walk.
        kernel: of a convolution.
        x: what it reads.
        meta: what it returns, on the meta device.
    """
    spatial = kernel.weight.ndim - 2
    places = meta if kernel.filters == 0 else x
    times = math.prod(places.shape[-spatial:])
    axis = x.ndim - spatial - 1
    if x.channel_axes and x.channel_axes[-1] < axis:
        _pass_by(channels, kernel, times * x.shape[0], x)
        return None
    channels.count_macs(kernel.weight, times)
    others = [other for other in range(x.ndim) if other != axis]
    name = f"conv{spatial}d" if kernel.filters == 0 else f"conv_transpose{spatial}d"
    ids_in = channels.axis(channels.pin_axes(x, others, name), axis)
    width_in, width_out = kernel.width
    ids_out = hold_single(channels, channels.fresh(width_out))
    units = None
    if kernel.groups == 1:
        channels.bind(kernel.weight, kernel.filters, ids_out, filters=True)
        channels.bind(kernel.weight, 1 - kernel.filters, ids_in)
    elif whole_groups(width_in, kernel.groups):
        units = _bind_groups(channels, kernel, ids_in, ids_out)
    else:
        _bind_positions(channels, kernel, ids_in, ids_out)
    channels.bind(kernel.bias, 0, ids_out)
    return Made(Signal(meta, along(axis, x.ndim, ids_out)), ids_in, ids_out, units)


def _pass_by(channels: Channels, kernel: Kernel, times: int, x: Signal) -> None:
    """Keep all of a layer's own, and count it once for each of the channels that are apart in it.

    Args:
        channels: the walk.
        kernel: the layer's.
        times: how often its weight is used for the whole batch.
        x: what it reads.
    """
    count_product(channels, times * math.prod(kernel.weight.shape), np.unique(x.ids))
    for axis in (0, 1):
        channels.bind(kernel.weight, axis, None)
    channels.bind(kernel.bias, 0, None)


def _bind_groups(
    channels: Channels, kernel: Kernel, ids_in: Ids | None, ids_out: Ids
) -> Ids | None:
    """A group goes with all its inputs and outputs; what a group is inside never changes."""
    units = None
    if ids_in is None:
        channels.pin(ids_out, "each group's input always stays")
    else:
        units = couple_groups(channels, kernel.groups, ids_in, ids_out)
    channels.bind(kernel.weight, 0, ids_out if kernel.filters == 0 else ids_in, filters=True)
    return units


def _bind_positions(channels: Channels, kernel: Kernel, ids_in: Ids | None, ids_out: Ids) -> None:
    """The same positions go in every group; there are always as many groups."""
    first_out = couple_positions(channels, kernel.groups, ids_out)
    first_in = None if ids_in is None else couple_positions(channels, kernel.groups, ids_in)
    if kernel.filters == 0:
        channels.bind(kernel.weight, 0, ids_out, filters=True)
        channels.bind(kernel.weight, 1, first_in)
    else:
        channels.bind(kernel.weight, 0, ids_in)
        channels.bind(kernel.weight, 1, first_out, filters=True)
