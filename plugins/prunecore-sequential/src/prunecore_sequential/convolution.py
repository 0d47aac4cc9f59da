"""The layers that make channels: convolutions, transposed ones, and linear layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunecore.plugin import Channels, Signal
from prunecore_sequential.kernels import Kernel, Made, convolve, multiply
from prunecore_sequential.rules import Rule, expect_size, torch_class

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


_BESIDE = "channels lie along another axis of its input than it mixes"


def convolution(channels: Channels, layer: Convolution, x: Signal) -> Signal:
    """New channels, unless there are more along the places, which are apart in it.

    The weight is `(out, in / groups, *kernel)`.
    """
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
    if _is_beside(layer, x):
        times = math.prod(meta.shape[-len(layer.kernel_size) :])
        channels.count_macs(layer.weight, times, channels.axis(x, x.channel_axes[0]))
        channels.leave_whole(layer, _BESIDE)
        return Signal(meta, x.ids)
    kernel = Kernel(layer.weight, layer.bias, layer.groups, filters=0)
    return _made(channels, layer, convolve(channels, kernel, x, meta), x, meta)


def _is_beside(layer: Convolution, x: Signal) -> bool:
    """True if channels lie along places that are apart, and are more than would be made."""
    axes = x.channel_axes
    if len(axes) != 1 or axes[0] < x.ndim - len(layer.kernel_size):
        return False
    if x.shape[axes[0]] <= layer.out_channels:
        return False
    is_plain = layer.padding in ("same", "valid") or not any(map(int, layer.padding))
    return is_plain and layer.groups == 1 and {*layer.kernel_size, *layer.stride} == {1}


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
    made = convolve(channels, Kernel(layer.weight, layer.bias, layer.groups, filters=1), x, meta)
    return _made(channels, layer, made, x, meta)


def linear(channels: Channels, layer: nn.Linear, x: Signal) -> Signal:
    """New channels along the last axis, unless others than the inputs' features are followed."""
    expect_size(channels, x, x.ndim - 1, layer.in_features)
    meta = channels.run(F.linear, x, _shape_of(layer.weight, x))
    made = multiply(channels, Kernel(layer.weight, layer.bias), x, meta)
    if made is None:
        channels.leave_whole(layer, _BESIDE)
        return Signal(meta, x.ids)
    channels.width(layer, "in_features", made.entering)
    channels.width(layer, "out_features", made.leaving)
    return made.signal


def _made(
    channels: Channels, layer: Convolution | Transposed, made: Made | None, x: Signal, meta: Tensor
) -> Signal:
    """What a convolution returns; its constructor's arguments are declared.

    Args:
        channels: the walk.
        layer: the convolution.
        made: the channels that it makes; `None` where those of its input are apart in it.
        x: what it reads.
        meta: what it returns, on the meta device.
    """
    if made is None:
        channels.leave_whole(layer, _BESIDE)
        for attribute in ("in_channels", "out_channels"):
            channels.width(layer, attribute, None)
        return Signal(meta, x.ids)
    if made.units is not None:
        channels.width(layer, "groups", made.units)
    channels.width(layer, "in_channels", made.entering)
    channels.width(layer, "out_channels", made.leaving)
    return made.signal


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
