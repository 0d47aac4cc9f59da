"""The rules for functions that work place by place, and for what is asked of a tensor."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from prunecore.channels.signal import Computed, Grid, Reduced, Signal
from prunecore.channels.sizes import places, sizes
from prunecore.functions.reshaping import reordered
from prunecore.functions.rule import FunctionRule, Operation, Sign, elementwise, everywhere

if TYPE_CHECKING:
    from prunecore.channels.channels import Channels


_CAST_TO = {
    "bool": torch.bool,
    "int": torch.int32,
    "long": torch.int64,
    **dict.fromkeys(("float", "double", "half", "bfloat16"), torch.float32),
}


def _cast(channels: Channels, operation: Operation) -> Signal:
    """Another type or device, perhaps that of a second tensor: the same channels."""
    tensor, given = operation.tensor, (*operation.args[1:], *operation.kwargs.values())
    asked = [value for value in given if isinstance(value, torch.dtype)]
    asked += [value.meta.dtype for value in given if isinstance(value, Signal)]
    dtype = _CAST_TO.get(operation.name) or next(iter(asked), tensor.meta.dtype)
    return _of_type(tensor, dtype)


def _of_type(tensor: Signal, dtype: torch.dtype) -> Signal:
    """A tensor as one of another type; all floating point is float32 here."""
    meta = tensor.meta.to(torch.float32 if dtype.is_floating_point else dtype)
    return tensor if meta.dtype is tensor.meta.dtype else replace(tensor, meta=meta)


def _type(channels: Channels, operation: Operation) -> Any:
    """Another type, or the name of the one that it has."""
    dtype = operation.argument(1, "dtype")
    if dtype is None:
        return operation.run(channels)
    if isinstance(dtype, str):  # such as torch.cuda.FloatTensor, wherever the tensor is
        dtype = torch.empty(0).type(f"torch.{dtype.rpartition('.')[2]}").dtype
    return _of_type(operation.tensor, dtype)


def _add(channels: Channels, operation: Operation) -> Any:
    """A sum, or two tuples of tensors one after the other."""
    first = operation.argument(0, "input")
    if isinstance(first, tuple | list):
        return operation.function(*operation.args)
    return elementwise(channels, operation)


def _attribute(channels: Channels, operation: Operation) -> Any:
    tensor, name = operation.args
    if not isinstance(tensor, Signal):  # a named tuple of them
        return getattr(tensor, name)
    if name in ("T", "mT"):
        return reordered(
            channels,
            channels.plain(tensor, (Grid,)),
            getattr(tensor.meta, name),
            lambda ids: np.ascontiguousarray(getattr(torch.from_numpy(ids), name).numpy()),
        )
    if name == "data":
        return tensor
    if name not in ("shape", "ndim", "dtype", "device"):
        channels.refuse(
            f"its forward reads .{name} of a tensor", "Write it without that attribute."
        )
    return sizes(tensor) if name == "shape" else getattr(tensor.meta, name)


def _size(channels: Channels, operation: Operation) -> Any:
    operation.run(channels)  # complains about an axis that is not there
    dim = operation.argument(1, "dim")
    return sizes(operation.tensor) if dim is None else sizes(operation.tensor)[dim]


def _length(channels: Channels, operation: Operation) -> Any:
    operation.run(channels)  # complains about a tensor without axes
    return sizes(operation.tensor)[0]


def _count(channels: Channels, operation: Operation) -> Any:
    """How many axes, or places, a tensor has; whether its numbers have a fraction."""
    return places(operation.tensor) if operation.name == "numel" else operation.run(channels)


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
    empty_like
    dropout alpha_dropout feature_alpha_dropout dropout1d dropout2d dropout3d feature_dropout
    bernoulli normal uniform rand_like randn_like
"""


_BY_PLACE = FunctionRule(elementwise, understands=(Computed,), keeps_numbers=True)


_ASKED = (Grid, Reduced)  # of a tensor that is asked something, nothing is coupled


_SIGNS: Mapping[Callable[..., Any], Sign] = {
    operator.or_: Sign("|", 1),
    operator.xor: Sign("^", 2),
    operator.and_: Sign("&", 3),
    operator.sub: Sign("-", 4),
    operator.mul: Sign("*", 5),
    operator.truediv: Sign("/", 5),
    operator.floordiv: Sign("//", 5),
    operator.mod: Sign("%", 5),
    operator.neg: Sign("-", 6, "prefix"),
    operator.pos: Sign("+", 6, "prefix"),
    operator.invert: Sign("~", 6, "prefix"),
    operator.pow: Sign("**", 7),
    operator.lt: Sign("<", 0, opposite=operator.ge),
    operator.le: Sign("<=", 0, opposite=operator.gt),
    operator.gt: Sign(">", 0, opposite=operator.le),
    operator.ge: Sign(">=", 0, opposite=operator.lt),
    operator.eq: Sign("==", 0, opposite=operator.ne),
    operator.ne: Sign("!=", 0, opposite=operator.eq),
    operator.iadd: Sign("+=", 0, "in place"),
    operator.isub: Sign("-=", 0, "in place"),
    operator.imul: Sign("*=", 0, "in place"),
    operator.itruediv: Sign("/=", 0, "in place"),
}


RULES: Mapping[Callable[..., Any], FunctionRule] = {
    **{function: replace(_BY_PLACE, sign=sign) for function, sign in _SIGNS.items()},
    operator.add: replace(_BY_PLACE, calculate=_add, sign=Sign("+", 4)),
    operator.abs: _BY_PLACE,
    **everywhere(_ELEMENTWISE, _BY_PLACE),
    **everywhere("to float double half bfloat16 type_as long int bool", FunctionRule(_cast)),
    **everywhere("cpu requires_grad", FunctionRule(_cast)),
    **everywhere("type", FunctionRule(_type)),
    **everywhere("size", FunctionRule(_size, understands=_ASKED)),
    **everywhere(
        "dim ndimension numel is_floating_point is_complex",
        FunctionRule(_count, understands=_ASKED),
    ),
    getattr: FunctionRule(_attribute, understands=_ASKED, sign=Sign(".", 9, "access")),
    len: FunctionRule(_length, understands=_ASKED),
}
