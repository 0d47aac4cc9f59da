"""The layers that change shapes: pooling, padding, upsampling, flattening, pixel shuffling."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunecore.plugin import Channels, Operation, Signal, over_kept, spatial
from prunecore_sequential.rules import Rule, classes


def each_channel(axes: int, channels: Channels, layer: nn.Module, x: Signal) -> Any:
    """Pooling and padding: each channel's last axes by themselves."""
    return spatial(axes)(channels, Operation(_named_forward(layer), (x,), {}))


def adaptive_average(axes: int, channels: Channels, layer: Any, x: Signal) -> Any:
    """Adaptive average pooling."""
    # Its shape is that of the maximum, which torch answers without importing its decompositions.
    pool = getattr(F, f"adaptive_max_pool{axes}d")
    forward = _named(type(layer).__name__, functools.partial(pool, output_size=layer.output_size))
    return spatial(axes)(channels, Operation(forward, (x,), {}))


def fractional_pool(axes: int, channels: Channels, layer: Any, x: Signal) -> Any:
    """Fractional pooling, at places that are drawn anew for every channel."""
    if layer._random_samples is not None:
        channels.refuse(
            "it pools at given samples, and their number is that of the batch",
            "Leave _random_samples out.",
        )
    channels.masked_forward(
        layer,
        channels.axis(x, x.ndim - axes - 1),
        functools.partial(_pool_kept, x.ndim - axes - 1),
    )
    return each_channel(axes, channels, layer, x)


def _pool_kept(axis: int, module: nn.Module, kept: Tensor, x: Tensor) -> Any:
    """Draw samples for the kept channels alone, as the network without the others does."""
    return over_kept(functools.partial(type(module).forward, module), axis, kept, x)


def unpool(
    axes: int,
    channels: Channels,
    layer: nn.Module,
    x: Signal,
    indices: Signal,
    output_size: list[int] | None = None,
) -> Any:
    """The reverse of max pooling, at the places that it returned."""
    coupled = Signal(x.meta, channels.couple(x, indices).ids)
    arguments = (coupled, indices, output_size)
    return spatial(axes)(channels, Operation(_named_forward(layer), arguments, {}))


def upsample(channels: Channels, layer: nn.Module, x: Signal) -> Any:
    """Upsampling: each channel's map by itself, whatever its rank."""
    return each_channel(x.ndim - 2, channels, layer, x)


def flatten(channels: Channels, layer: nn.Flatten, x: Signal) -> Any:
    """As the function does."""
    return channels.apply(torch.flatten, x, layer.start_dim, layer.end_dim)


def unflatten(channels: Channels, layer: nn.Unflatten, x: Signal) -> Any:
    """As the function does; its sizes are written once for all calls."""
    y: Signal = channels.apply(torch.unflatten, x, layer.dim, layer.unflattened_size)
    channels.width(layer, "unflattened_size", y.ids.ravel())
    return y


def pixel_shuffle(channels: Channels, layer: nn.PixelShuffle, x: Signal) -> Any:
    """As the function does."""
    return channels.apply(F.pixel_shuffle, x, layer.upscale_factor)


def pixel_unshuffle(channels: Channels, layer: nn.PixelUnshuffle, x: Signal) -> Any:
    """As the function does."""
    return channels.apply(F.pixel_unshuffle, x, layer.downscale_factor)


def unfold(channels: Channels, layer: nn.Unfold, x: Signal) -> Any:
    """As the function does."""
    return channels.apply(
        F.unfold, x, layer.kernel_size, layer.dilation, layer.padding, layer.stride
    )


def fold(channels: Channels, layer: nn.Fold, x: Signal) -> Any:
    """As the function does."""
    sizes = (layer.output_size, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
    return channels.apply(F.fold, x, *sizes)


def _named_forward(layer: nn.Module) -> Callable[..., Any]:
    """A layer's forward under its class's name, which is what reasons call it by."""
    return _named(type(layer).__name__, functools.partial(layer.forward))


def _named(name: str, function: functools.partial[Any]) -> Callable[..., Any]:
    function.__name__ = name  # type: ignore[attr-defined] # a partial has none of its own
    return function


def _of_rank(rule: Rule, names: str) -> dict[type[nn.Module], Rule]:
    """The rule for the 1d, 2d and 3d form of each class."""
    return {
        cls: functools.partial(rule, axes)
        for axes in (1, 2, 3)
        for cls in classes(" ".join(f"{name}{axes}d" for name in names.split()))
    }


RULES: Mapping[type[nn.Module], Rule] = {
    **_of_rank(
        each_channel,
        "MaxPool AvgPool LPPool AdaptiveMaxPool "
        "CircularPad ConstantPad ReflectionPad ReplicationPad ZeroPad",
    ),
    **_of_rank(adaptive_average, "AdaptiveAvgPool"),
    **_of_rank(fractional_pool, "FractionalMaxPool"),
    **_of_rank(unpool, "MaxUnpool"),
    **dict.fromkeys((nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d), upsample),
    nn.Flatten: flatten,
    nn.Unflatten: unflatten,
    nn.PixelShuffle: pixel_shuffle,
    nn.PixelUnshuffle: pixel_unshuffle,
    nn.Unfold: unfold,
    nn.Fold: fold,
}
