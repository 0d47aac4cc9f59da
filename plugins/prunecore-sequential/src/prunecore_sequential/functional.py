"""The layers of `torch.nn.functional`, given weights that the calling module holds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from prunecore.plugin import (
    Channels,
    Computed,
    FunctionRule,
    LinearMap,
    Operation,
    Signal,
    over_kept,
)
from prunecore_sequential import embedding
from prunecore_sequential.kernels import Kernel, convolve, multiply
from prunecore_sequential.linear_maps import Convolution, Dense, Geometry, Transposed
from prunecore_sequential.normalization import by_channel, group_norm, layer_norm, of_call
from prunecore_sequential.rules import declare

if TYPE_CHECKING:
    from prunecore.plugin import Keep

# (args, kwargs) as they are written
Arguments = tuple[tuple[Any, ...], dict[str, Any]]

_NAMES = {  # of the arguments after the input, in order, up to the last that matters here
    "linear": "weight bias",
    "prelu": "weight",
    "conv1d conv2d conv3d": "weight bias stride padding dilation groups",
    "conv_transpose1d conv_transpose2d conv_transpose3d": (
        "weight bias stride padding output_padding groups dilation"
    ),
    "deform_conv2d": (  # the operator, whose stride, padding and dilation are two numbers each
        "weight offset mask bias stride stride padding padding dilation dilation groups "
        "offset_groups"
    ),
}
_PLACES = {
    function: {name: place for place, name in enumerate(names.split(), start=1)}
    for functions, names in _NAMES.items()
    for function in functions.split()
}


def argument_of(operation: Operation, name: str, default: Any = None) -> Any:
    """One of a layer's arguments."""
    return operation.argument(_PLACES[operation.name][name], name, default)


def _weight(operation: Operation, name: str) -> Tensor | Signal | None:
    """One of a layer's tensors: a parameter, or what the forward has computed."""
    given: Signal | None = argument_of(operation, name)
    return given if given is None or given.parameter is None else given.parameter


def _kernel(operation: Operation, filters: int = 0) -> Kernel:
    weight = _weight(operation, "weight")
    assert weight is not None  # torch takes no layer without one
    groups = argument_of(operation, "groups", 1) if "groups" in _PLACES[operation.name] else 1
    return Kernel(weight, _weight(operation, "bias"), groups, filters)


def _without_columns(channels: Channels, operation: Operation, kernel: Kernel) -> None:
    """Let a computed weight be zero where it reads what is gone, whatever it is computed to be."""
    axis = 1 - kernel.filters
    ids = channels.columns(kernel.weight, axis)
    reads_kept = functools.partial(_with_kept_columns, operation.function, axis)
    channels.masked_function(ids, reads_kept)


def _with_kept_columns(
    function: Callable[..., Tensor], axis: int, kept: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    operation = Operation(function, args, kwargs)
    weight: Tensor = argument_of(operation, "weight")
    columns = over_kept(torch.clone, axis, kept, weight)
    args, kwargs = _with((args, kwargs), "weight", lambda _: columns)
    return function(*args, **kwargs)


def linear(channels: Channels, operation: Operation) -> Signal:
    """New channels along the last axis, which a vector of weights takes away."""
    weight: Signal = argument_of(operation, "weight")
    if weight.ndim == 1:
        product: Signal = channels.apply(torch.matmul, operation.tensor, weight)
        return product
    x, meta = operation.tensor, operation.run(channels)
    kernel = _kernel(operation)
    made = multiply(channels, kernel, x, meta)
    if made is None:
        return Signal(meta, x.ids)
    _without_columns(channels, operation, kernel)
    declare(channels, kernel.weight, in_features=made.entering, out_features=made.leaving)
    return made.signal


def convolution(filters: int, channels: Channels, operation: Operation) -> Signal:
    """New channels; `filters` is the axis of the weight that makes them."""
    meta = operation.run(channels)
    kernel = _kernel(operation, filters)
    made = convolve(channels, kernel, operation.tensor, meta)
    if made is None:
        return Signal(meta, operation.tensor.ids)
    _without_columns(channels, operation, kernel)
    names = ["out_channels", "in_channels"]
    if _is_called_the_other_way_round(channels, kernel):
        names.reverse()
    leaving, entering = names
    widths = {leaving: made.leaving, entering: made.entering, "groups": made.units}
    declare(channels, kernel.weight, **widths)
    return made.signal


def _is_called_the_other_way_round(channels: Channels, kernel: Kernel) -> bool:
    """True for the weight of a convolution in a transposed one, as in tied autoencoders."""
    if not isinstance(kernel.weight, Tensor):
        return False
    holder = channels.holder(kernel.weight)
    transposed = getattr(holder, "transposed", bool(kernel.filters))  # as torch's convolutions say
    return transposed != bool(kernel.filters)


def prelu(channels: Channels, operation: Operation) -> Signal:
    """Place by place; a slope for each channel, or one for all."""
    x, slope = operation.tensor, _weight(operation, "weight")
    operation.run(channels)
    if slope is not None and tuple(slope.shape) not in ((), (1,)):
        ids = channels.axis(x, 1)
        channels.bind(slope, 0, ids)
        declare(channels, slope, num_parameters=ids)
    return Signal(x.meta, x.ids)


def _write_shape(arguments: Arguments, result: Signal, keep: Keep) -> Arguments:
    """The shape that a norm is over, in the kept widths."""

    def kept(shape: Any) -> Any:
        if not isinstance(shape, list | tuple):
            return shape
        return type(shape)(
            keep.size(result, axis) if isinstance(size, int) else size
            for axis, size in enumerate(shape, start=result.ndim - len(shape))
        )

    return _with(arguments, "normalized_shape", kept)


def _write_groups(name: str, place: int) -> Callable[..., Arguments]:
    """The number of groups that stay."""

    def write(arguments: Arguments, result: Signal, keep: Keep) -> Arguments:
        def kept(groups: Any) -> Any:
            axes = result.channel_axes
            if not isinstance(groups, int) or groups == 1 or not axes:
                return groups
            each_group = result.ids.reshape(groups, -1)
            rows = keep.mask(each_group).any(axis=1)
            return groups if rows.all() else keep.count(each_group[:, 0])

        return _with(arguments, name, kept, place)

    return write


def _with(
    arguments: Arguments, name: str, change: Callable[[Any], Any], place: int = 1
) -> Arguments:
    """The arguments with one of them changed."""
    args, kwargs = arguments
    if name in kwargs:
        return args, {**kwargs, name: change(kwargs[name])}
    if place < len(args):
        return (*args[:place], change(args[place]), *args[place + 1 :]), kwargs
    return arguments


def _linear_map(operation: Operation) -> LinearMap:
    return Dense(argument_of(operation, "weight"), argument_of(operation, "bias"))


def _map_of_convolution(operation: Operation) -> LinearMap:
    """A call as a map, its stride, padding and dilation a number for each axis."""
    weight: Any = argument_of(operation, "weight")
    kernel = tuple(weight.shape[2:])

    def each(name: str, default: int) -> tuple[int, ...]:
        value = argument_of(operation, name, default)
        value = (value,) if isinstance(value, int) else tuple(value)
        return value if len(value) == len(kernel) else value * len(kernel)

    stride, dilation = each("stride", 1), each("dilation", 1)
    geometry = Geometry(kernel, stride, dilation, argument_of(operation, "groups", 1))
    bias, padding = argument_of(operation, "bias"), argument_of(operation, "padding", 0)
    if operation.name.startswith("conv_transpose"):
        return Transposed(weight, bias, geometry, each("padding", 0))
    if padding == "valid":
        sides = (0,) * (2 * len(kernel))
    elif padding == "same":
        lacking = [apart * (width - 1) for width, apart in zip(kernel, dilation, strict=True)]
        sides = tuple(side for whole in lacking[::-1] for side in (whole // 2, whole - whole // 2))
    else:
        sides = tuple(side for side in each("padding", 0)[::-1] for _ in range(2))
    return Convolution(weight, bias, geometry, sides)


def _rules() -> dict[Callable[..., Any], FunctionRule]:
    grouped = _write_groups("groups", 6)
    rules = {
        "linear": FunctionRule(linear, understands=(Computed,), linear_map=_linear_map),
        "embedding": FunctionRule(embedding.of_call, understands=(Computed,)),
        "prelu": FunctionRule(prelu, understands=(Computed,)),
        "batch_norm": FunctionRule(of_call(by_channel), understands=(Computed,)),
        "instance_norm": FunctionRule(of_call(by_channel), understands=(Computed,)),
        "group_norm": FunctionRule(
            of_call(group_norm), _write_groups("num_groups", 1), understands=(Computed,)
        ),
        "layer_norm": FunctionRule(of_call(layer_norm), _write_shape, understands=(Computed,)),
        "rms_norm": FunctionRule(of_call(layer_norm), _write_shape, understands=(Computed,)),
    }
    for axes in (1, 2, 3):
        for filters, name in enumerate(("conv", "conv_transpose")):
            rule = functools.partial(convolution, filters)
            rules[f"{name}{axes}d"] = FunctionRule(
                rule, grouped, understands=(Computed,), linear_map=_map_of_convolution
            )
    return {
        getattr(space, name): rule
        for name, rule in rules.items()
        for space in (F, torch)
        if name != "embedding" or space is F  # torch's takes the table first
        if hasattr(space, name)
    }


RULES: Mapping[Callable[..., Any], FunctionRule] = _rules()
