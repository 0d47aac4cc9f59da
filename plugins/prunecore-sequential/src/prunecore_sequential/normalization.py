"""The normalisations: batch, instance, group, layer, RMS, and over neighbouring channels."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunecore.plugin import Channels, Signal
from prunecore_sequential.rules import (
    Ids,
    Rule,
    classes,
    couple_groups,
    couple_positions,
    expect_size,
    torch_class,
    whole_groups,
)

BatchNorm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
InstanceNorm: TypeAlias = nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d

_SPATIAL_AXES: dict[type[nn.Module], int] = {
    nn.InstanceNorm1d: 1,
    nn.InstanceNorm2d: 2,
    nn.InstanceNorm3d: 3,
}


def batch_norm(channels: Channels, layer: BatchNorm, x: Signal) -> Signal:
    """Each channel by itself; running statistics are cut with it."""
    channels.run(layer._check_input_dim, x)
    expect_size(channels, x, 1, layer.num_features)
    if layer.running_mean is None:
        x = channels.pin_axes(x, [axis for axis in range(x.ndim) if axis != 1], "batch_norm")
    _bind_channels(channels, layer, channels.axis(x, 1))
    return x


def instance_norm(channels: Channels, layer: InstanceNorm, x: Signal) -> Signal:
    """Each channel of each input by itself, over its spatial axes."""
    channels.run(layer._check_input_dim, x)
    axis = x.ndim - _SPATIAL_AXES[torch_class(layer)] - 1
    expect_size(channels, x, axis, layer.num_features)
    x = channels.pin_axes(x, range(axis + 1, x.ndim), "instance_norm")
    _bind_channels(channels, layer, channels.axis(x, axis))
    return x


def _bind_channels(channels: Channels, layer: BatchNorm | InstanceNorm, ids: Ids | None) -> None:
    for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
        channels.bind(tensor, 0, ids)
    channels.width(layer, "num_features", ids)


def group_norm(channels: Channels, layer: nn.GroupNorm, x: Signal) -> Signal:
    """Groups of channels, each normalised by itself: whole groups go, or positions of all."""
    expect_size(channels, x, 1, layer.num_channels)
    x, ids, units = by_groups(channels, x, layer.num_groups)
    if units is not None:
        channels.width(layer, "num_groups", units)
    else:
        channels.masked_forward(layer, ids, _group_norm_over_kept)
    channels.bind(layer.weight, 0, ids)
    channels.bind(layer.bias, 0, ids)
    channels.width(layer, "num_channels", ids)
    return x


def by_groups(channels: Channels, x: Signal, groups: int) -> tuple[Signal, Ids | None, Ids | None]:
    """What a group norm does to channels.

    Returns:
        Its output, its channels, and one channel of each group where whole groups go.
    """
    x = channels.pin_axes(x, range(2, x.ndim), "group_norm")
    ids = channels.axis(x, 1)
    if ids is None:
        return x, None, None
    if whole_groups(len(ids), groups):
        return x, ids, couple_groups(channels, groups, ids)
    couple_positions(channels, groups, ids)
    return x, ids, None


def _group_norm_over_kept(module: nn.GroupNorm, kept: Tensor, x: Tensor) -> Tensor:
    return group_norm_over_kept(kept, x, module.num_groups, module.weight, module.bias, module.eps)


def group_norm_over_kept(
    kept: Tensor,
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise over the kept places of axis 1, zeros elsewhere; as `F.group_norm` else."""
    weight, bias = cut(weight, 0, kept), cut(bias, 0, kept)
    part = F.group_norm(x.index_select(1, kept), groups, weight, bias, eps)
    return torch.zeros_like(x).index_copy(1, kept, part)


def layer_norm(channels: Channels, layer: Any, x: Signal) -> Signal:
    """LayerNorm and RMSNorm, over the last axes; channels along one of them can go."""
    x, axis = over_last_axes(channels, x, layer.normalized_shape)
    if axis is None:
        return x
    ids = channels.axis(x, axis)
    for tensor in (layer.weight, _bias(layer)):
        channels.bind(tensor, axis - (x.ndim - len(layer.normalized_shape)), ids)
    forward = functools.partial(_layer_norm_over_kept, axis - x.ndim)
    channels.masked_forward(layer, ids, forward)
    return x


def over_last_axes(
    channels: Channels, x: Signal, shape: Sequence[int]
) -> tuple[Signal, int | None]:
    """What a norm over the last axes, of this shape, does to channels.

    Returns:
        Its output, and the axis of it along which it normalises over channels.
    """
    rank = len(shape)
    for axis, size in enumerate(shape, start=-rank):
        expect_size(channels, x, axis, size)
    mixed = [axis for axis in x.channel_axes if axis >= x.ndim - rank]
    if len(mixed) > 1:
        return channels.pin_axes(x, mixed, "layer_norm"), None
    return x, mixed[0] if mixed else None


def _layer_norm_over_kept(axis: int, module: Any, kept: Tensor, x: Tensor) -> Tensor:
    """Normalise over the kept places of an axis, counted from the last one."""
    part = x.index_select(axis, kept)
    shape = part.shape[-len(module.normalized_shape) :]
    weight = cut(module.weight, axis, kept)
    if isinstance(module, nn.LayerNorm):
        part = F.layer_norm(part, shape, weight, cut(module.bias, axis, kept), module.eps)
    else:
        part = F.rms_norm(part, list(shape), weight, module.eps)
    return torch.zeros_like(x).index_copy(axis, kept, part)


def _bias(layer: Any) -> Tensor | None:
    """A layer's bias; RMSNorm knows none."""
    return getattr(layer, "bias", None)


def cut(tensor: Tensor | None, axis: int, kept: Tensor) -> Tensor | None:
    """The kept places of a weight, if there is one."""
    return None if tensor is None else tensor.index_select(axis, kept)


def local_response_norm(channels: Channels, _layer: nn.LocalResponseNorm, x: Signal) -> Signal:
    """Each channel by those beside it, which removing one would change."""
    return channels.pin_axes(x, [1], "local_response_norm")


RULES: Mapping[type[nn.Module], Rule] = {
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), batch_norm),
    **dict.fromkeys((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), instance_norm),
    nn.GroupNorm: group_norm,
    **dict.fromkeys(classes("LayerNorm RMSNorm"), layer_norm),
    nn.LocalResponseNorm: local_response_norm,
}
