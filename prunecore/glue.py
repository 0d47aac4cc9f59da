"""The rules for the functions of torch that people call between layers."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from prunecore import folding, indexing, products, reductions, reshaping
from prunecore.functions import Arguments, FunctionRule, Operation, elementwise, everywhere, spatial
from prunecore.hookspecs import hookimpl
from prunecore.signal import Signal, along
from prunecore.sizes import depending, sizes

if TYPE_CHECKING:
    from prunecore.channels import Channels
    from prunecore.keep import Keep


def _cast(channels: Channels, operation: Operation) -> Signal:
    """Another type or device, perhaps that of a second tensor: the same channels."""
    return operation.tensor


def _add(channels: Channels, operation: Operation) -> Any:
    """A sum, or two tuples of tensors one after the other."""
    first = operation.argument(0, "input")
    if isinstance(first, tuple | list):
        return operation.function(*operation.args)
    return elementwise(channels, operation)


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
        place, ids = 2 * (result.ndim - 1 - axis), result.ids.ravel()
        for side, added in enumerate(_padding(pad, result.ndim, axis)):
            if isinstance(added, int) and added > 0:  # else it is computed
                pad[place + side] = keep.count(ids[-added:] if side else ids[:added])
    if "pad" in keywords:
        return args, {**keywords, "pad": tuple(pad)}
    return (args[0], tuple(pad), *args[2:]), keywords


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
    """How many axes, or places, a tensor has; whether its numbers have a fraction."""
    answer = operation.run(channels)
    counts_channels = operation.name == "numel" and operation.tensor.channel_axes
    return depending(answer, [operation.tensor.ids]) if counts_channels else answer


_ELEMENTWISE = """
    abs add addcdiv addcmul asin asinh atan atan2 atanh bitwise_and bitwise_not bitwise_or ceil
    clamp clamp_max clamp_min clip copysign cos cosh div divide eq erf
    erfc exp exp2 expm1 fix float_power floor floor_divide fmax fmin fmod frac ge greater gt
    hardshrink hypot isfinite isinf isnan le lerp less log log10 log1p log2 logical_and
    logical_not logical_or logical_xor logit lt maximum minimum mul multiply nan_to_num ne neg
    negative positive pow reciprocal relu remainder round rsqrt rsub sgn sigmoid sign sin sinc
    sinh softplus sqrt square sub subtract tan tanh true_divide trunc where xlogy
    celu elu gelu hardsigmoid hardswish hardtanh leaky_relu logsigmoid mish relu6 rrelu selu
    silu softsign softshrink tanhshrink threshold masked_fill fill zero copy
    zeros_like ones_like full_like empty_like
    dropout alpha_dropout feature_alpha_dropout dropout1d dropout2d dropout3d feature_dropout
    bernoulli normal uniform rand_like randn_like
"""
_OPERATORS = """
    add sub mul truediv floordiv mod pow neg pos abs lt le gt ge eq ne and_ or_ xor invert
    iadd isub imul itruediv
"""


def _unpool(axes: int) -> FunctionRule:
    """The reverse of max pooling, at the places that it returned."""

    def calculate(channels: Channels, operation: Operation) -> Any:
        tensor, indices = operation.tensor, operation.argument(1, "indices")
        coupled = Signal(tensor.meta, channels.couple(tensor, indices).ids)
        rest = {name: value for name, value in operation.kwargs.items() if name != "input"}
        return spatial(axes)(
            channels, replace(operation, args=(coupled, *operation.args[1:]), kwargs=rest)
        )

    return FunctionRule(calculate)


def _pools(axes: int) -> dict[Callable[..., Any], FunctionRule]:
    kinds = ("max_pool{}d", "avg_pool{}d", "lp_pool{}d", "adaptive_max_pool{}d")
    with_indices = ("max_pool{}d_with_indices", "adaptive_max_pool{}d_with_indices")
    names = [kind.format(axes) for kind in (*kinds, *with_indices)]
    pools = {getattr(F, name): FunctionRule(spatial(axes)) for name in names if hasattr(F, name)}
    return pools | {
        getattr(F, f"adaptive_avg_pool{axes}d"): _adaptive_average(axes),
        getattr(F, f"max_unpool{axes}d"): _unpool(axes),
    }


@hookimpl
def prunecore_functions() -> Mapping[Callable[..., Any], FunctionRule]:
    """The rules for the functions of torch that people call between layers."""
    operators = [getattr(operator, name) for name in _OPERATORS.split()]
    by_place = FunctionRule(elementwise, takes_computed=True)
    return {
        **dict.fromkeys(operators, by_place),
        operator.add: FunctionRule(_add, takes_computed=True),
        **everywhere(_ELEMENTWISE, by_place),
        **everywhere("to float double half bfloat16 type_as long int bool", FunctionRule(_cast)),
        **everywhere("size", FunctionRule(_size)),
        **everywhere("dim ndimension numel is_floating_point is_complex", FunctionRule(_count)),
        **reshaping.RULES,
        **reductions.RULES,
        **indexing.RULES,
        **folding.RULES,
        **products.RULES,
        **_pools(1),
        **_pools(2),
        **_pools(3),
        getattr: FunctionRule(_attribute),
        len: FunctionRule(_count),
        F.interpolate: FunctionRule(_interpolate),
        F.pad: FunctionRule(_pad, _write_pad),
    }
