"""The layers that make channels: convolutions, transposed ones, and linear layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunecore import Channels, Signal, along
from prunecore_sequential.rules import (
    Ids,
    Rule,
    couple_groups,
    couple_positions,
    expect_size,
    hold_single,
    torch_class,
    whole_groups,
)

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed: TypeAlias = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d

_FUNCTIONS: Mapping[type[nn.Module], Callable[..., Tensor]] = {
    nn.Conv1d: F.conv1d,
    nn.Conv2d: F.conv2d,
    nn.Conv3d: F.conv3d,
    nn.ConvTranspose1d: F.conv_transpose1d,
    nn.ConvTranspose2d: F.conv_transpose2d,
    nn.ConvTranspose3d: F.conv_transpose3d,
}


def convolution(channels: Channels, layer: Convolution, x: Signal) -> Signal:
    """New channels; the weight is `(out, in / groups, *kernel)`."""
    expect_size(channels, x, x.ndim - len(layer.kernel_size) - 1, layer.in_channels)
    meta = channels.run(
        _FUNCTIONS[torch_class(layer)],
        x,
        _shape_of(layer.weight, x),
        None,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
    )
    spatial = len(layer.kernel_size)
    channels.count_macs(layer.weight, math.prod(meta.shape[-spatial:]))
    return _make_channels(channels, layer, x, meta, filters=0)


def transposed_convolution(
    channels: Channels, layer: Transposed, x: Signal, output_size: list[int] | None = None
) -> Signal:
    """New channels; the weight is `(in, out / groups, *kernel)`."""
    spatial = len(layer.kernel_size)
    expect_size(channels, x, x.ndim - spatial - 1, layer.in_channels)

    def run(tensor: Tensor) -> Tensor:
        added = layer._output_padding(
            tensor,
            output_size,
            layer.stride,  # type: ignore[arg-type] # tuples, which torch's annotation leaves out
            layer.padding,  # type: ignore[arg-type]
            layer.kernel_size,  # type: ignore[arg-type]
            spatial,
            layer.dilation,  # type: ignore[arg-type]
        )
        weight = _shape_of(layer.weight, x)
        function = _FUNCTIONS[torch_class(layer)]
        return function(
            tensor, weight, None, layer.stride, layer.padding, added, layer.groups, layer.dilation
        )

    meta = channels.run(run, x)
    channels.count_macs(layer.weight, math.prod(x.shape[-spatial:]))
    return _make_channels(channels, layer, x, meta, filters=1)


def linear(channels: Channels, layer: nn.Linear, x: Signal) -> Signal:
    """New channels along the last axis, unless others than the inputs' features are followed."""
    expect_size(channels, x, x.ndim - 1, layer.in_features)
    meta = channels.run(F.linear, x, _shape_of(layer.weight, x))
    ids_in = channels.axis(x, x.ndim - 1)
    beside = [axis for axis in x.channel_axes if axis != x.ndim - 1]
    along_others = channels.axis(x, beside[0]) if ids_in is None and beside else None
    channels.count_macs(layer.weight, math.prod(x.shape[1:-1]), along_others)
    if along_others is not None:
        channels.leave_whole(layer, "channels lie along another axis of its input than it mixes")
        return Signal(meta, x.ids)
    ids_out = hold_single(channels, channels.fresh(layer.out_features))
    channels.bind(layer.weight, 0, ids_out, filters=True)
    channels.bind(layer.weight, 1, ids_in)
    channels.bind(layer.bias, 0, ids_out)
    channels.width(layer, "in_features", ids_in)
    channels.width(layer, "out_features", ids_out)
    return Signal(meta, along(meta.ndim - 1, meta.ndim, ids_out))


def _make_channels(
    channels: Channels, layer: Convolution | Transposed, x: Signal, meta: Tensor, filters: int
) -> Signal:
    """Bind a convolution's weights; `filters` is the axis of its weight that makes channels."""
    axis = x.ndim - len(layer.kernel_size) - 1
    others = [other for other in range(x.ndim) if other != axis]
    x = channels.pin_axes(x, others, _FUNCTIONS[torch_class(layer)].__name__)
    ids_in = channels.axis(x, axis)
    ids_out = hold_single(channels, channels.fresh(layer.out_channels))
    if layer.groups == 1:
        channels.bind(layer.weight, filters, ids_out, filters=True)
        channels.bind(layer.weight, 1 - filters, ids_in)
    elif whole_groups(layer.in_channels, layer.groups):
        _bind_groups(channels, layer, ids_in, ids_out, filters)
    else:
        _bind_positions(channels, layer, ids_in, ids_out, filters)
    channels.bind(layer.bias, 0, ids_out)
    channels.width(layer, "in_channels", ids_in)
    channels.width(layer, "out_channels", ids_out)
    return Signal(meta, along(axis, x.ndim, ids_out))


def _bind_groups(
    channels: Channels,
    layer: Convolution | Transposed,
    ids_in: Ids | None,
    ids_out: Ids,
    filters: int,
) -> None:
    """A group goes with all its inputs and outputs; what a group is inside never changes."""
    if ids_in is None:
        reason = "each group's input always stays"
        channels.pin(ids_out, reason)
        channels.leave_whole(layer, reason)
    else:
        channels.width(layer, "groups", couple_groups(channels, layer.groups, ids_in, ids_out))
    channels.bind(layer.weight, 0, ids_out if filters == 0 else ids_in, filters=True)


def _bind_positions(
    channels: Channels,
    layer: Convolution | Transposed,
    ids_in: Ids | None,
    ids_out: Ids,
    filters: int,
) -> None:
    """The same positions go in every group; there are always as many groups."""
    first_out = couple_positions(channels, layer.groups, ids_out)
    first_in = None if ids_in is None else couple_positions(channels, layer.groups, ids_in)
    if filters == 0:
        channels.bind(layer.weight, 0, ids_out, filters=True)
        channels.bind(layer.weight, 1, first_in)
    else:
        channels.bind(layer.weight, 0, ids_in)
        channels.bind(layer.weight, 1, first_out, filters=True)


def _shape_of(weight: Tensor, x: Signal) -> Tensor:
    """A weight's shape without its storage, in the type of the tensor that it meets."""
    return torch.empty(weight.shape, dtype=x.meta.dtype, device="meta")


RULES: Mapping[type[nn.Module], Rule] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), convolution),
    **dict.fromkeys(
        (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), transposed_convolution
    ),
    nn.Linear: linear,
}
