"""The rules for glue functions: what they do to channel ids, and how their literals are written."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from prunecore.hookspecs import hookimpl
from prunecore.signal import Signal, along, shaped, without_channels

if TYPE_CHECKING:
    from prunecore.channels import Channels
    from prunecore.keep import Keep


@dataclass(frozen=True)
class Operation:
    """A function call that the walk meets; a `Signal` stands for each tensor."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """The argument at a position or of a name."""
        return self.args[position] if position < len(self.args) else self.kwargs.get(name, default)

    @property
    def name(self) -> str:
        """The function's name."""
        return str(self.function.__name__)


# What a function does to channels: returns a Signal for each tensor that the function returns.
Calculate = Callable[["Channels", Operation], Any]

# The arguments as written: (args, kwargs, what the function returned, keep) -> (args, kwargs).
# In args and kwargs an Expression stands for what is computed; other values are literals.
Rewrite = Callable[
    [tuple[Any, ...], dict[str, Any], Any, "Keep"], tuple[tuple[Any, ...], dict[str, Any]]
]


@dataclass(frozen=True)
class FunctionRule:
    """What a function does to channels, and how a call of it is written.

    Attributes:
        calculate: `(channels, operation)` to what the function returns, `Signal` for tensor.
        rewrite: the arguments for the kept widths; `None` where no literal counts channels.
    """

    calculate: Calculate
    rewrite: Rewrite | None = None


def elementwise(channels: Channels, operation: Operation) -> Signal:
    """Place by place: the tensors among the arguments are coupled."""
    arguments = [*operation.args, *operation.kwargs.values()]
    met = channels.couple(*(value for value in arguments if isinstance(value, Signal)))
    return Signal(shaped(met.shape), met.ids)  # contiguous, as the results of torch are


def _concatenate(channels: Channels, operation: Operation) -> Signal:
    tensors: Sequence[Signal] = operation.args[0]
    dim = operation.argument(1, "dim", 0) % tensors[0].ndim
    meta = channels.run(torch.cat, [tensor.meta for tensor in tensors], dim)
    rank = meta.ndim
    if any(tensor.carries_channels(dim) for tensor in tensors):
        if any(tensor.channel_axes not in ([dim], []) for tensor in tensors):
            for tensor in tensors:
                channels.pin(tensor.ids, "it is concatenated with channels along another axis")
            return Signal(meta, without_channels(rank))
        parts = [np.broadcast_to(tensor.ids.ravel(), (tensor.shape[dim],)) for tensor in tensors]
        return Signal(meta, along(dim, rank, np.concatenate(parts)))
    whole = channels.couple(*(_collapse(tensor, dim) for tensor in tensors))
    return Signal(meta, whole.ids)


def _collapse(tensor: Signal, dim: int) -> Signal:
    shape = [1 if axis == dim else size for axis, size in enumerate(tensor.shape)]
    return Signal(shaped(shape), tensor.ids)


def _reshape(channels: Channels, operation: Operation) -> Signal:
    tensor: Signal = operation.args[0]
    return channels.reshape(
        tensor, channels.run(operation.function, *operation.args, **operation.kwargs)
    )


def _write_sizes(
    args: tuple[Any, ...], kwargs: dict[str, Any], result: Signal, keep: Keep
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Literal sizes of a reshape: those that count channels become the kept widths."""
    sizes = args[1:]
    if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
        return (args[0], type(sizes[0])(_kept_sizes(sizes[0], result, keep))), kwargs
    return (args[0], *_kept_sizes(sizes, result, keep)), kwargs


def _kept_sizes(sizes: Sequence[Any], result: Signal, keep: Keep) -> list[Any]:
    return [
        keep.size(result, axis)
        if type(size) is int and size != -1 and result.carries_channels(axis)
        else size
        for axis, size in enumerate(sizes)
    ]


def _rearrange(channels: Channels, operation: Operation) -> Signal:
    """Axes change places: the ids' axes do the same."""
    tensor: Signal = operation.args[0]
    meta = channels.run(operation.function, *operation.args, **operation.kwargs)
    ids = operation.function(
        torch.from_numpy(tensor.ids), *operation.args[1:], **operation.kwargs
    ).numpy()
    return Signal(meta, ids)


def _reduce(channels: Channels, operation: Operation) -> Any:
    """A reduction: channels that it mixes are left whole."""
    tensor: Signal = operation.args[0]
    result = channels.run(operation.function, *operation.args, **operation.kwargs)
    dims = operation.argument(1, "dim")
    dims = range(tensor.ndim) if dims is None else [dims] if isinstance(dims, int) else dims
    axes = {dim % tensor.ndim for dim in dims}
    ids = channels.pin_axes(tensor, axes, operation.name).ids
    metas = [result] if isinstance(result, Tensor) else list(result)
    if metas[0].ndim != tensor.ndim:
        kept = [axis for axis in range(tensor.ndim) if axis not in axes]
        ids = ids.reshape([ids.shape[axis] for axis in kept])
    signals = [Signal(meta, ids) for meta in metas]
    return signals[0] if isinstance(result, Tensor) else tuple(signals)


def _mixes_along_dim(channels: Channels, operation: Operation) -> Signal:
    """Softmax and its like: what lies along `dim` sees each other, and is left whole."""
    tensor: Signal = operation.args[0]
    dim = operation.argument(1, "dim")
    axes = range(tensor.ndim) if dim is None else [dim % tensor.ndim]
    return channels.pin_axes(tensor, axes, operation.name)


def spatial(axes: int) -> Calculate:
    """The rule of a function that works on each channel's last axes, as pooling does.

    Args:
        axes: how many last axes it works along.
    """

    def calculate(channels: Channels, operation: Operation) -> Any:
        tensor: Signal = operation.args[0]
        result = channels.run(operation.function, *operation.args, **operation.kwargs)
        last = range(tensor.ndim - axes, tensor.ndim)
        ids = channels.pin_axes(tensor, last, operation.name).ids
        if isinstance(result, Tensor):
            return Signal(result, ids)
        return tuple(Signal(meta, ids) for meta in result)

    return calculate


def _interpolate(channels: Channels, operation: Operation) -> Any:
    tensor: Signal = operation.args[0]
    return spatial(tensor.ndim - 2)(channels, operation)


def _pad(channels: Channels, operation: Operation) -> Signal:
    """Padding; places that it adds along the channel axis are channels of their own."""
    tensor: Signal = operation.args[0]
    meta = channels.run(operation.function, *operation.args, **operation.kwargs)
    pad: Sequence[int] = operation.args[1]
    ids = tensor.ids
    for axis in tensor.channel_axes:
        place = 2 * (tensor.ndim - 1 - axis)
        before, after = pad[place : place + 2] if place < len(pad) else (0, 0)
        if (
            ((before or after) and operation.argument(2, "mode", "constant") != "constant")
            or before < 0
            or after < 0
        ):
            ids = channels.pin_axes(tensor, [axis], "pad").ids
        elif before or after:
            added = channels.fresh(before + after)
            ids = along(
                axis,
                tensor.ndim,
                np.concatenate([added[:before], ids.ravel(), added[before:]]),
            )
    return Signal(meta, ids)


def _write_pad(
    args: tuple[Any, ...], kwargs: dict[str, Any], result: Signal, keep: Keep
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    pad = list(args[1])
    for axis in result.channel_axes:
        place = 2 * (result.ndim - 1 - axis)
        if place < len(pad):
            ids = result.ids.ravel()
            before, after = pad[place], pad[place + 1]
            pad[place] = keep.count(ids[:before])
            pad[place + 1] = keep.count(ids[len(ids) - after :])
    return (args[0], type(args[1])(pad), *args[2:]), kwargs


def _index(channels: Channels, operation: Operation) -> Any:
    """Indexing with integers, slices, `...` and `None`; a cut through channels leaves them whole."""
    tensor, index = operation.args
    if not isinstance(tensor, Signal):  # a tuple of them
        return operation.function(tensor, index)
    items = list(index) if isinstance(index, tuple) else [index]
    if any(not isinstance(item, int | slice | type(None) | type(...)) for item in items):
        channels.refuse(
            f"its forward indexes a tensor with {index!r}",
            "Index with integers and slices, or give a rule in a plugin (hook prunecore_functions).",
        )
    meta = channels.run(operation.function, tensor, index)
    taken = sum(isinstance(item, int | slice) for item in items)
    rest: list[Any] = [slice(None)] * (tensor.ndim - taken)
    at = next((i for i, item in enumerate(items) if item is ...), len(items))
    items = [*items[:at], *rest, *items[at + 1 :]]
    axis = 0
    for place, item in enumerate(items):
        if item is None:
            continue
        if not tensor.carries_channels(axis):
            items[place] = 0 if isinstance(item, int) else slice(None)
        elif item != slice(None):
            channels.pin(tensor.ids, "a slice cuts through it")
        axis += 1
    ids = tensor.ids[tuple(items)]
    return Signal(meta, np.asarray(ids).reshape([1] * meta.ndim if ids.size == 1 else ids.shape))


def _attribute(channels: Channels, operation: Operation) -> Any:
    tensor, name = operation.args
    if name in ("shape", "ndim", "dtype", "device", "T", "mT"):
        value = getattr(tensor.meta, name)
        if isinstance(value, Tensor):
            return _rearrange(channels, Operation(lambda x: getattr(x, name), (tensor,), {}))
        return value
    return channels.refuse(
        f"its forward reads .{name} of a tensor", "Write it without that attribute."
    )


def _ask(channels: Channels, operation: Operation) -> Any:
    """A question about a tensor's shape: answered by the meta tensor."""
    return channels.run(operation.function, *operation.args, **operation.kwargs)


def _stack(channels: Channels, operation: Operation) -> Signal:
    tensors: Sequence[Signal] = operation.args[0]
    dim = operation.argument(1, "dim", 0) % (tensors[0].ndim + 1)
    meta = channels.run(torch.stack, [tensor.meta for tensor in tensors], dim)
    return Signal(meta, np.expand_dims(channels.couple(*tensors).ids, dim))


_ELEMENTWISE_NAMES = [
    "abs",
    "add",
    "addcdiv",
    "addcmul",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "ceil",
    "clamp",
    "clamp_max",
    "clamp_min",
    "clip",
    "clone",
    "contiguous",
    "copysign",
    "cos",
    "cosh",
    "detach",
    "div",
    "divide",
    "eq",
    "erf",
    "erfc",
    "exp",
    "exp2",
    "expm1",
    "fix",
    "float_power",
    "floor",
    "floor_divide",
    "fmax",
    "fmin",
    "fmod",
    "frac",
    "ge",
    "greater",
    "gt",
    "hardshrink",
    "hypot",
    "isfinite",
    "isinf",
    "isnan",
    "le",
    "lerp",
    "less",
    "log",
    "log10",
    "log1p",
    "log2",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logit",
    "lt",
    "maximum",
    "minimum",
    "mul",
    "multiply",
    "nan_to_num",
    "ne",
    "neg",
    "negative",
    "positive",
    "pow",
    "reciprocal",
    "relu",
    "remainder",
    "round",
    "rsqrt",
    "rsub",
    "sgn",
    "sigmoid",
    "sign",
    "sin",
    "sinc",
    "sinh",
    "softplus",
    "sqrt",
    "square",
    "sub",
    "subtract",
    "tan",
    "tanh",
    "true_divide",
    "trunc",
    "where",
    "xlogy",
    "celu",
    "elu",
    "gelu",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "logsigmoid",
    "mish",
    "relu6",
    "rrelu",
    "selu",
    "silu",
    "softsign",
    "softshrink",
    "tanhshrink",
    "threshold",
    "dropout",
    "alpha_dropout",
    "feature_alpha_dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "feature_dropout",
    "to",
    "float",
    "double",
    "half",
    "bfloat16",
    "type_as",
    "masked_fill",
]
_OPERATORS = [
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "neg",
    "pos",
    "abs",
    "lt",
    "le",
    "gt",
    "ge",
    "eq",
    "ne",
    "and_",
    "or_",
    "xor",
    "invert",
    "iadd",
    "isub",
    "imul",
    "itruediv",
]
_REDUCTIONS = [
    "mean",
    "sum",
    "amax",
    "amin",
    "std",
    "var",
    "prod",
    "logsumexp",
    "norm",
    "all",
    "any",
    "max",
    "min",
]
_RESHAPES = ["flatten", "reshape", "view", "unflatten"]
_REARRANGEMENTS = [
    "permute",
    "transpose",
    "swapaxes",
    "swapdims",
    "movedim",
    "moveaxis",
    "t",
    "squeeze",
    "unsqueeze",
]
_NAMESPACES = (torch, F, Tensor, torch.special)


def _everywhere(names: Sequence[str]) -> list[Callable[..., Any]]:
    """The functions and methods of these names, the in-place forms among them."""
    forms = [form for name in names for form in (name, f"{name}_")]
    return [getattr(space, form) for space in _NAMESPACES for form in forms if hasattr(space, form)]


def _pools() -> dict[Callable[..., Any], FunctionRule]:
    names = ("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool", "lp_pool")
    return {
        getattr(F, f"{name}{axes}d"): FunctionRule(spatial(axes))
        for name in names
        for axes in (1, 2, 3)
        if hasattr(F, f"{name}{axes}d")
    }


@hookimpl
def prunecore_functions() -> Mapping[Callable[..., Any], FunctionRule]:
    """The rules for the functions of torch that people call between layers."""
    pointwise = FunctionRule(elementwise)
    reshape = FunctionRule(_reshape, _write_sizes)
    rules: dict[Callable[..., Any], FunctionRule] = {math.prod: FunctionRule(_ask)}
    rules |= dict.fromkeys(_everywhere(_REDUCTIONS), FunctionRule(_reduce))
    rules |= dict.fromkeys(_everywhere(_ELEMENTWISE_NAMES), pointwise)
    rules |= dict.fromkeys((getattr(operator, name) for name in _OPERATORS), pointwise)
    rules |= dict.fromkeys(_everywhere(_RESHAPES), reshape)
    rules |= dict.fromkeys(_everywhere(_REARRANGEMENTS), FunctionRule(_rearrange))
    rules |= dict.fromkeys(
        _everywhere(["cat", "concat", "concatenate"]), FunctionRule(_concatenate)
    )
    rules |= dict.fromkeys(
        _everywhere(["softmax", "log_softmax", "cumsum", "softmin", "gumbel_softmax"]),
        FunctionRule(_mixes_along_dim),
    )
    rules |= dict.fromkeys(
        [Tensor.size, Tensor.dim, Tensor.numel, torch.numel, Tensor.ndimension, len],
        FunctionRule(_ask),
    )
    rules |= _pools()
    return rules | {
        torch.stack: FunctionRule(_stack),
        operator.getitem: FunctionRule(_index),
        getattr: FunctionRule(_attribute),
        F.interpolate: FunctionRule(_interpolate),
        F.pad: FunctionRule(_pad, _write_pad),
    }
