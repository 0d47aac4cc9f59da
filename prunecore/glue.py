"""The rules for the functions of torch that people call between layers."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from prunecore.functions import Arguments, FunctionRule, Operation, elementwise, spatial
from prunecore.hookspecs import hookimpl
from prunecore.signal import Ids, Signal, along, shaped, without_channels
from prunecore.sizes import depending, sizes

if TYPE_CHECKING:
    from prunecore.channels import Channels
    from prunecore.keep import Keep


def _cast(channels: Channels, operation: Operation) -> Signal:
    """Another type or device, perhaps that of a second tensor: the same channels."""
    return operation.tensor


def _concatenate(channels: Channels, operation: Operation) -> Signal:
    tensors: Sequence[Signal] = operation.argument(0, "tensors")
    dim = operation.argument(1, "dim", 0) % tensors[0].ndim
    meta = channels.run(torch.cat, [tensor.meta for tensor in tensors], dim)
    if not any(tensor.carries_channels(dim) for tensor in tensors):
        return Signal(meta, channels.couple(*(_without(tensor, dim) for tensor in tensors)).ids)
    if any(tensor.channel_axes not in ([dim], []) for tensor in tensors):
        for tensor in tensors:
            channels.pin(tensor.ids, "it is concatenated with channels along another axis")
        return Signal(meta, without_channels(meta.ndim))
    parts = [np.broadcast_to(tensor.ids.ravel(), (tensor.shape[dim],)) for tensor in tensors]
    return Signal(meta, along(dim, meta.ndim, np.concatenate(parts)))


def _without(tensor: Signal, dim: int) -> Signal:
    """A tensor as if one axis had size 1, to be coupled along the others."""
    shape = [1 if axis == dim else size for axis, size in enumerate(tensor.shape)]
    return Signal(shaped(shape), tensor.ids)


def _stack(channels: Channels, operation: Operation) -> Signal:
    tensors: Sequence[Signal] = operation.argument(0, "tensors")
    dim = operation.argument(1, "dim", 0) % (tensors[0].ndim + 1)
    meta = channels.run(torch.stack, [tensor.meta for tensor in tensors], dim)
    return Signal(meta, np.expand_dims(channels.couple(*tensors).ids, dim))


def _reshape(channels: Channels, operation: Operation) -> Signal:
    return channels.reshape(operation.tensor, operation.run(channels))


def _write_sizes(arguments: Arguments, result: Signal, keep: Keep) -> Arguments:
    """Literal sizes of a reshape: those that count channels become the kept widths."""
    (tensor, *sizes), keywords = arguments
    for key in keywords.keys() & {"shape", "size"}:
        keywords[key] = _kept_sizes(keywords[key], 0, result, keep)
    if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
        sizes = [type(sizes[0])(_kept_sizes(sizes[0], 0, result, keep))]
    else:
        sizes = _kept_sizes(sizes, 0, result, keep)
    return (tensor, *sizes), keywords


def _write_unflatten(arguments: Arguments, result: Signal, keep: Keep) -> Arguments:
    (tensor, dim, sizes), keywords = arguments
    first = dim if dim >= 0 else dim + result.ndim - len(sizes) + 1
    return (tensor, dim, tuple(_kept_sizes(sizes, first, result, keep))), keywords


def _kept_sizes(sizes: Sequence[Any], first: int, result: Signal, keep: Keep) -> list[Any]:
    return [
        keep.size(result, axis)
        if type(size) is int and size != -1 and result.carries_channels(axis)
        else size
        for axis, size in enumerate(sizes, start=first)
    ]


def _rearrange(channels: Channels, operation: Operation) -> Signal:
    """Axes change places: the ids' axes do the same."""
    ids = operation.on(torch.from_numpy(operation.tensor.ids)).numpy()
    return Signal(operation.run(channels), ids)


def _reduce(channels: Channels, operation: Operation) -> Any:
    """A reduction: channels that it mixes are left whole."""
    tensor = operation.tensor
    dims = operation.argument(1, "dim")
    if isinstance(dims, Signal):  # torch.max and torch.min of two tensors
        return elementwise(channels, operation)
    result = operation.run(channels)
    dims = range(tensor.ndim) if dims is None else [dims] if isinstance(dims, int) else dims
    axes = {dim % tensor.ndim for dim in dims}
    ids = channels.pin_axes(tensor, axes, operation.name).ids
    metas = [result] if isinstance(result, Tensor) else list(result)
    if metas[0].ndim != tensor.ndim:
        ids = ids.reshape([size for axis, size in enumerate(ids.shape) if axis not in axes])
    signals = [Signal(meta, ids) for meta in metas]
    return signals[0] if isinstance(result, Tensor) else type(result)(signals)


def _mixes_along_dim(channels: Channels, operation: Operation) -> Signal:
    """Softmax and its like: what lies along `dim` sees each other, and is left whole."""
    tensor = operation.tensor
    dim = operation.argument(1, "dim")
    axes = range(tensor.ndim) if dim is None else [dim % tensor.ndim]
    return channels.pin_axes(tensor, axes, operation.name)


def _interpolate(channels: Channels, operation: Operation) -> Any:
    return spatial(operation.tensor.ndim - 2)(channels, operation)


def _adaptive_average(axes: int) -> FunctionRule:
    """Its shape is that of the maximum, which torch answers without its slow decompositions."""
    maximum = getattr(F, f"adaptive_max_pool{axes}d")

    def calculate(channels: Channels, operation: Operation) -> Any:
        pool = Operation(maximum, operation.args, operation.kwargs)
        return spatial(axes)(channels, pool)

    return FunctionRule(calculate)


def _pad(channels: Channels, operation: Operation) -> Signal:
    """Padding; places that it adds along the channel axis are channels of their own."""
    tensor, meta = operation.tensor, operation.run(channels)
    pad: Sequence[int] = operation.argument(1, "pad")
    constant = operation.argument(2, "mode", "constant") == "constant"
    for axis in tensor.channel_axes:
        before, after = _padding(pad, tensor.ndim, axis)
        if min(before, after) < 0 or ((before or after) and not constant):
            return Signal(meta, channels.pin_axes(tensor, [axis], operation.name).ids)
        if before or after:
            added = channels.fresh(before + after)
            ids = np.concatenate([added[:before], tensor.ids.ravel(), added[before:]])
            return Signal(meta, along(axis, tensor.ndim, ids))
    return Signal(meta, tensor.ids)


def _padding(pad: Sequence[int], rank: int, axis: int) -> tuple[int, int]:
    """What is added before and after an axis; `pad` begins at the last one."""
    place = 2 * (rank - 1 - axis)
    return (pad[place], pad[place + 1]) if place < len(pad) else (0, 0)


def _write_pad(arguments: Arguments, result: Signal, keep: Keep) -> Arguments:
    args, keywords = arguments
    pad = list(keywords["pad"] if "pad" in keywords else args[1])
    for axis in result.channel_axes:
        before, after = _padding(pad, result.ndim, axis)
        if min(before, after) >= 0 and (before or after):
            ids = result.ids.ravel()
            place = 2 * (result.ndim - 1 - axis)
            pad[place : place + 2] = _kept(ids[:before], keep), _kept(ids[len(ids) - after :], keep)
    if "pad" in keywords:
        return args, {**keywords, "pad": tuple(pad)}
    return (args[0], tuple(pad), *args[2:]), keywords


def _kept(ids: Ids, keep: Keep) -> int:
    return keep.count(ids) if len(ids) else 0


def _index(channels: Channels, operation: Operation) -> Any:
    """Indexing by integers, slices, `...` and `None`; a cut through channels leaves them whole."""
    tensor, index = operation.args
    if not isinstance(tensor, Signal):  # a tuple of them
        return operation.function(tensor, index)
    items = list(index) if isinstance(index, tuple) else [index]
    if any(not isinstance(item, int | slice | type(None) | type(...)) for item in items):
        kinds = " and ".join(_kind(item) for item in items)
        channels.refuse(
            f"its forward indexes a tensor with {kinds}",
            "Index with integers and slices, or give a rule in a plugin "
            "(hook prunecore_functions).",
        )
    meta = operation.run(channels)
    taken = sum(isinstance(item, int | slice) for item in items)
    rest: list[Any] = [slice(None)] * (tensor.ndim - taken)
    at = items.index(...) if ... in items else len(items)
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
    return Signal(meta, ids if ids.size > 1 else ids.reshape([1] * meta.ndim))


def _kind(item: Any) -> str:
    """What an index is, for a message: a tensor's own text would fill pages."""
    return "a tensor" if isinstance(item, Signal) else repr(item)


def _attribute(channels: Channels, operation: Operation) -> Any:
    tensor, name = operation.args
    if not isinstance(tensor, Signal):  # a named tuple of them
        return getattr(tensor, name)
    if name in ("T", "mT"):
        ids = getattr(torch.from_numpy(tensor.ids), name).numpy()
        return Signal(getattr(tensor.meta, name), ids)
    if name not in ("shape", "ndim", "dtype", "device", "is_cuda"):
        channels.refuse(
            f"its forward reads .{name} of a tensor", "Write it without that attribute."
        )
    return sizes(tensor) if name == "shape" else getattr(tensor.meta, name)


def _size(channels: Channels, operation: Operation) -> Any:
    operation.run(channels)  # complains about an axis that is not there
    dim = operation.argument(1, "dim")
    return sizes(operation.tensor) if dim is None else sizes(operation.tensor)[dim]


def _count(channels: Channels, operation: Operation) -> Any:
    """How many axes, or places, a tensor has."""
    answer = operation.run(channels)
    counts_channels = operation.name == "numel" and operation.tensor.channel_axes
    return depending(answer, [operation.tensor.ids]) if counts_channels else answer


_ELEMENTWISE = """
    abs add addcdiv addcmul asin asinh atan atan2 atanh bitwise_and bitwise_not bitwise_or ceil
    clamp clamp_max clamp_min clip clone contiguous copysign cos cosh detach div divide eq erf
    erfc exp exp2 expm1 fix float_power floor floor_divide fmax fmin fmod frac ge greater gt
    hardshrink hypot isfinite isinf isnan le lerp less log log10 log1p log2 logical_and
    logical_not logical_or logical_xor logit lt maximum minimum mul multiply nan_to_num ne neg
    negative positive pow reciprocal relu remainder round rsqrt rsub sgn sigmoid sign sin sinc
    sinh softplus sqrt square sub subtract tan tanh true_divide trunc where xlogy
    celu elu gelu hardsigmoid hardswish hardtanh leaky_relu logsigmoid mish relu6 rrelu selu
    silu softsign softshrink tanhshrink threshold masked_fill
    dropout alpha_dropout feature_alpha_dropout dropout1d dropout2d dropout3d feature_dropout
"""
_OPERATORS = """
    add sub mul truediv floordiv mod pow neg pos abs lt le gt ge eq ne and_ or_ xor invert
    iadd isub imul itruediv
"""


def _everywhere(names: str) -> list[Callable[..., Any]]:
    """The functions and methods of these names, the in-place forms among them."""
    forms = [form for name in names.split() for form in (name, f"{name}_")]
    spaces = (torch, F, Tensor, torch.special)
    return [getattr(space, form) for space in spaces for form in forms if hasattr(space, form)]


def _pools(axes: int) -> dict[Callable[..., Any], FunctionRule]:
    names = [f"{kind}_pool{axes}d" for kind in ("max", "avg", "lp", "adaptive_max")]
    pools = {getattr(F, name): FunctionRule(spatial(axes)) for name in names if hasattr(F, name)}
    return pools | {getattr(F, f"adaptive_avg_pool{axes}d"): _adaptive_average(axes)}


@hookimpl
def prunecore_functions() -> Mapping[Callable[..., Any], FunctionRule]:
    """The rules for the functions of torch that people call between layers."""
    by_names = {
        _ELEMENTWISE: FunctionRule(elementwise),
        "to float double half bfloat16 type_as": FunctionRule(_cast),
        "mean sum amax amin std var prod logsumexp all any max min": FunctionRule(_reduce),
        "softmax log_softmax softmin cumsum cumprod": FunctionRule(_mixes_along_dim),
        "flatten squeeze unsqueeze": FunctionRule(_reshape),
        "reshape view": FunctionRule(_reshape, _write_sizes),
        "unflatten": FunctionRule(_reshape, _write_unflatten),
        "permute transpose swapaxes swapdims movedim moveaxis t": FunctionRule(_rearrange),
        "cat concat concatenate": FunctionRule(_concatenate),
        "stack": FunctionRule(_stack),
        "size": FunctionRule(_size),
        "dim ndimension numel": FunctionRule(_count),
    }
    rules: dict[Callable[..., Any], FunctionRule] = {
        getattr(operator, name): FunctionRule(elementwise) for name in _OPERATORS.split()
    }
    for names, rule in by_names.items():
        rules |= dict.fromkeys(_everywhere(names), rule)
    for axes in (1, 2, 3):
        rules |= _pools(axes)
    return rules | {
        operator.getitem: FunctionRule(_index),
        getattr: FunctionRule(_attribute),
        len: FunctionRule(_count),
        F.interpolate: FunctionRule(_interpolate),
        F.pad: FunctionRule(_pad, _write_pad),
    }
