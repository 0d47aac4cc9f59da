"""The normalisations, as layers and as functions: batch, instance, group, layer, RMS and local."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunecore.plugin import Channels, Operation, Signal, over_kept
from prunecore_sequential.rules import (
    Ids,
    Rule,
    classes,
    couple_groups,
    couple_positions,
    declare,
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
_ARGUMENTS = {  # after the input, in order, under the names that the layers' attributes have, too
    "batch_norm": "running_mean running_var weight bias training",
    "instance_norm": "running_mean running_var weight bias",
    "group_norm": "num_groups weight bias eps",
    "layer_norm": "normalized_shape weight bias eps",
    "rms_norm": "normalized_shape weight eps",
}
_WEIGHTS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class Norm:
    """A norm, whether a layer holds its weights or a function is given them.

    Attributes:
        channels: the walk.
        function: that normalises.
        arguments: of it after the input, by name; a tensor for a parameter or a buffer, a `Signal`
            for what the forward has computed.
        layer: the module; `None` where a forward calls the function.
    """

    channels: Channels
    function: Callable[..., Tensor]
    arguments: Mapping[str, Any]
    layer: nn.Module | None = None

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.__name__

    def bind(self, ids: Ids | None, axis: int = 0, **widths: Ids | None) -> None:
        """Let an axis of all weights be of these channels.

        Args:
            ids: the channels.
            axis: of the weights.
            widths: what the layer's constructor is told of channels, by argument.
        """
        for name in _WEIGHTS:
            weight = self.arguments.get(name)
            self.channels.bind(weight, axis, ids)
            if self.layer is None:
                declare(self.channels, weight, **widths)
        if self.layer is not None:
            for argument, of in widths.items():
                self.channels.width(self.layer, argument, of)

    def mask(self, ids: Ids | None, normalize: Callable[..., Tensor]) -> None:
        """Let the masked original normalise over the kept ones of these channels.

        Args:
            ids: the channels.
            normalize: called with the kept places of `ids`, the input and the arguments.
        """
        if self.layer is None:
            self.channels.masked_function(ids, normalize)
        else:
            forward = functools.partial(_forward, self.name, normalize)
            self.channels.masked_forward(self.layer, ids, forward)


def _held(layer: nn.Module, name: str) -> dict[str, Any]:
    """The arguments that a layer calls the function of this name with."""
    return {argument: getattr(layer, argument) for argument in _ARGUMENTS[name].split()}


def _forward(
    name: str, normalize: Callable[..., Tensor], layer: nn.Module, kept: Tensor, x: Tensor
) -> Tensor:
    return normalize(kept, x, **_held(layer, name))


def of_layer(channels: Channels, layer: nn.Module, name: str, **others: Any) -> Norm:
    """A layer's norm.

    Args:
        channels: the walk.
        layer: the module.
        name: of the function of `torch.nn.functional`.
        others: arguments that are not those of the same names in the layer.
    """
    return Norm(channels, getattr(F, name), {**_held(layer, name), **others}, layer)


def of_call(rule: Callable[[Norm, Signal], Signal]) -> Callable[[Channels, Operation], Signal]:
    """The calculation for a function of a norm's rule."""

    def calculate(channels: Channels, operation: Operation) -> Signal:
        operation.run(channels)
        names = _ARGUMENTS[operation.name].split()
        given = {name: operation.argument(place, name) for place, name in enumerate(names, 1)}
        arguments = {
            name: value
            if not isinstance(value, Signal) or value.parameter is None
            else value.parameter
            for name, value in given.items()
        }
        return rule(Norm(channels, operation.function, arguments), operation.tensor)

    return calculate


def by_channel(norm: Norm, x: Signal, axis: int = 1) -> Signal:
    """Batch norm and instance norm: each channel by itself; running statistics are cut with it.

    Args:
        norm: the norm.
        x: its input.
        axis: along which the channels lie.
    """
    counts_batch = norm.name == "batch_norm"
    mixes_batch = counts_batch and norm.arguments["training"]
    others = [other for other in range(0 if mixes_batch else axis + 1, x.ndim) if other != axis]
    mixed = [other for other in others if x.carries_channels(other)]
    if norm.channels.follows_weights and len(mixed) == 1:
        # a weight's columns, and a gain for each row
        columns = norm.channels.axis(x, mixed[0])
        norm.mask(columns, functools.partial(over_kept, norm.function, mixed[0]))
        return Signal(x.meta, x.ids)
    if mixes_batch or not counts_batch:
        x = norm.channels.pin_axes(x, others, norm.name)
    ids = norm.channels.axis(x, axis)
    norm.bind(ids, num_features=ids)
    return Signal(x.meta, x.ids)


def group_norm(norm: Norm, x: Signal) -> Signal:
    """Groups of channels, each normalised by itself: whole groups go, or positions of all."""
    channels, groups = norm.channels, norm.arguments["num_groups"]
    x = channels.pin_axes(x, range(2, x.ndim), norm.name)
    ids, units = channels.axis(x, 1), None
    if ids is not None and whole_groups(len(ids), groups):
        units = couple_groups(channels, groups, ids)
    elif ids is not None:
        couple_positions(channels, groups, ids)
        norm.mask(ids, _group_norm_over_kept)
    norm.bind(ids, num_channels=ids, num_groups=units)
    return Signal(x.meta, x.ids)


def _group_norm_over_kept(
    kept: Tensor,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    cut = [tensor if tensor is None else tensor.index_select(0, kept) for tensor in (weight, bias)]
    part: Tensor = over_kept(F.group_norm, 1, kept, input, num_groups, *cut, eps)
    return part


def layer_norm(norm: Norm, x: Signal) -> Signal:
    """LayerNorm and RMSNorm, over the last axes; channels along one of them can go."""
    shape = norm.arguments["normalized_shape"]
    shape = (shape,) if isinstance(shape, int) else shape
    before = x.ndim - len(shape)
    for axis, size in enumerate(shape, start=-len(shape)):
        expect_size(norm.channels, x, axis, size)
    mixed = [axis for axis in x.channel_axes if axis >= before]
    if len(mixed) > 1:
        x = norm.channels.pin_axes(x, mixed, "layer_norm")
    elif mixed:
        ids = norm.channels.axis(x, mixed[0])
        norm.bind(ids, mixed[0] - before)
        axis = mixed[0] - x.ndim
        norm.mask(ids, functools.partial(_layer_norm_over_kept, norm.function, axis))
    return Signal(x.meta, x.ids)


def _layer_norm_over_kept(
    function: Callable[..., Tensor],
    axis: int,
    kept: Tensor,
    input: Tensor,
    normalized_shape: Any,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    """Normalise over the kept places of an axis, counted from the last one."""
    args, kwargs = pytree.tree_map_only(
        Tensor, lambda weight: weight.index_select(axis, kept), (args, kwargs)
    )

    def normalize(part: Tensor) -> Tensor:
        return function(part, part.shape[-len(normalized_shape) :], *args, **kwargs)

    part: Tensor = over_kept(normalize, axis, kept, input)
    return part


def _batch_norm_layer(channels: Channels, layer: BatchNorm, x: Signal) -> Signal:
    channels.run(layer._check_input_dim, x)
    expect_size(channels, x, 1, layer.num_features)
    norm = of_layer(channels, layer, "batch_norm", training=layer.running_mean is None)
    return by_channel(norm, x)


def _instance_norm_layer(channels: Channels, layer: InstanceNorm, x: Signal) -> Signal:
    channels.run(layer._check_input_dim, x)
    axis = x.ndim - _SPATIAL_AXES[torch_class(layer)] - 1
    expect_size(channels, x, axis, layer.num_features)
    return by_channel(of_layer(channels, layer, "instance_norm"), x, axis)


def _group_norm_layer(channels: Channels, layer: nn.GroupNorm, x: Signal) -> Signal:
    expect_size(channels, x, 1, layer.num_channels)
    return group_norm(of_layer(channels, layer, "group_norm"), x)


def _layer_norm_layer(channels: Channels, layer: nn.Module, x: Signal) -> Signal:
    name = "layer_norm" if isinstance(layer, nn.LayerNorm) else "rms_norm"
    return layer_norm(of_layer(channels, layer, name), x)


def _local_response_norm(channels: Channels, _layer: nn.LocalResponseNorm, x: Signal) -> Signal:
    """Each channel by those beside it, which removing one would change."""
    return channels.pin_axes(x, [1], "local_response_norm")


RULES: Mapping[type[nn.Module], Rule] = {
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), _batch_norm_layer),
    **dict.fromkeys(
        (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), _instance_norm_layer
    ),
    nn.GroupNorm: _group_norm_layer,
    **dict.fromkeys(classes("LayerNorm RMSNorm"), _layer_norm_layer),
    nn.LocalResponseNorm: _local_response_norm,
}
