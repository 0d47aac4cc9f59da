"""The constructor calls of layers, read from the layers themselves."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from prunecore.plugin import BlockSource, Call, Name
from prunecore_sequential.rules import classes, torch_class

if TYPE_CHECKING:
    from prunecore.plugin import Writer

# Arguments that torch writes once for all axes where they are equal.
_PER_AXIS = {
    "kernel_size",
    "stride",
    "padding",
    "output_padding",
    "dilation",
    "output_size",
    "output_ratio",
    "size",
    "scale_factor",
}
# Arguments that leave no trace in the layer, or whose trace is in the weights.
_NOT_WRITTEN = {
    "device",
    "dtype",
    "min_value",
    "max_value",
    "_random_samples",
    "_weight",
    "_freeze",
}


def write_layer(layer: nn.Module, _name: str, writer: Writer) -> BlockSource:
    """Call a layer's constructor with what its attributes tell, in the kept widths."""
    arguments = _arguments(layer, writer)
    if "stride" in arguments and _is_default_stride(layer):
        arguments["stride"] = None
    return BlockSource(Call.of(torch_class(layer), **arguments))


def write_layer_norm(layer: Any, name: str, writer: Writer) -> BlockSource:
    """LayerNorm and RMSNorm, over the kept widths of their input's last axes."""
    rank = len(layer.normalized_shape)
    if layer.weight is not None:
        shape = tuple(writer.width(layer.weight, axis) for axis in range(rank))
    else:
        x = writer.first_call(name).inputs[0]
        shape = tuple(writer.keep.size(x, axis) for axis in range(x.ndim - rank, x.ndim))
    arguments = _arguments(layer, writer)
    arguments["normalized_shape"] = shape[0] if rank == 1 else shape
    return BlockSource(Call.of(torch_class(layer), **arguments))


def write_unflatten(layer: nn.Unflatten, name: str, writer: Writer) -> BlockSource:
    """The sizes that count channels become the kept widths."""
    visit = writer.first_call(name)
    x, y = visit.inputs[0], visit.output
    first = int(layer.dim) % x.ndim
    sizes = tuple(
        writer.keep.size(y, axis) if size != -1 and y.carries_channels(axis) else size
        for axis, size in enumerate(layer.unflattened_size, start=first)
    )
    return BlockSource(Call.of(nn.Unflatten, dim=layer.dim, unflattened_size=sizes))


def _arguments(layer: nn.Module, writer: Writer) -> dict[str, Any]:
    constructor: type = torch_class(layer)
    return {name: _argument(layer, name, writer) for name in _parameters(constructor)}


@functools.cache
def _signature(constructor: type) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(constructor).parameters


@functools.cache
def _parameters(constructor: type) -> tuple[str, ...]:
    """The arguments that a layer's constructor call may have."""
    parameters = _signature(constructor).values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return tuple(
        parameter.name
        for parameter in parameters
        if parameter.kind not in variadic and parameter.name not in _NOT_WRITTEN
    )


def _argument(layer: Any, parameter: str, writer: Writer) -> Any:
    if parameter == "bias":
        # without any affine parameters the bias is not asked for
        affine = getattr(layer, "affine", getattr(layer, "elementwise_affine", True))
        return layer.bias is not None or not affine
    value = writer.argument(layer, parameter)
    return _once(value) if parameter in _PER_AXIS else _literal(value)


def _is_default_stride(layer: Any) -> bool:
    """True if a pooling steps by its kernel's size, which is what it does unless told."""
    constructor: type = torch_class(layer)
    if _signature(constructor)["stride"].default is not None:
        return False
    stepped: bool = _once(layer.stride) == _once(layer.kernel_size)
    return stepped


def _once(value: Any) -> Any:
    """One number for all axes where they are equal."""
    if not isinstance(value, tuple | list):
        return _literal(value)
    if value[0] is not None and all(entry == value[0] for entry in value):
        return _literal(value[0])
    return tuple(_literal(entry) for entry in value)


def _literal(value: Any) -> Any:
    """A value whose text is Python; that of `inf` is a name without meaning."""
    if isinstance(value, float) and not math.isfinite(value):
        return Name(f'float("{value}")')
    return value


WRITERS: Mapping[type[nn.Module], Any] = {
    **dict.fromkeys(classes("LayerNorm RMSNorm"), write_layer_norm),
    nn.Unflatten: write_unflatten,
}
