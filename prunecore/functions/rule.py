"""What is known of a function that a forward may call, in one record."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from prunecore.channels.ids import Ids
from prunecore.channels.signal import Expanded, Origin, Reduced, Signal, kind_of, leaves_of, shaped
from prunecore.channels.sizes import Count, Ratio, counted

if TYPE_CHECKING:
    from prunecore.channels.channels import Channels
    from prunecore.channels.keep import Keep
    from prunecore.channels.layers.linear_map import LinearMap


@dataclass(frozen=True)
class Operation:
    """A function call that the walk meets; a `Signal` stands for each tensor.

    Attributes:
        function: what is called, a method as `Tensor` has it.
        args: what it is called with, by position.
        kwargs: likewise, by name.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """The argument at a position or of a name; the default where it has neither."""
        return self.args[position] if position < len(self.args) else self.kwargs.get(name, default)

    @property
    def tensor(self) -> Signal:
        """The tensor that the function works on: its first argument, or `input`."""
        tensor: Signal = self.argument(0, "input")
        return tensor

    @property
    def name(self) -> str:
        """The function's name."""
        return str(self.function.__name__)

    def run(self, channels: Channels) -> Any:
        """Call the function on meta tensors, for the shape of its result.

        Raises:
            InputShapeError: the shapes do not fit.
        """
        return channels.run(self.function, *self.args, **self.kwargs)

    def on(self, tensor: Tensor) -> Tensor:
        """Call the function on a tensor in the place of `self.tensor`; its result."""
        rest = {name: value for name, value in self.kwargs.items() if name != "input"}
        result: Tensor = self.function(tensor, *self.args[1:], **rest)
        return result


# What a function does to channels: returns a Signal for each tensor that the function returns.
Calculate = Callable[["Channels", Operation], Any]


# (args, kwargs) as they are written: an expression for what is computed, the value of a literal.
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


# (the original arguments, what the function returned, keep) -> the arguments for the kept widths.
Rewrite = Callable[[Arguments, Signal, "Keep"], Arguments]


@dataclass(frozen=True)
class Sign:
    """The operator of Python that a call is written with.

    Attributes:
        text: the operator; `.` and `[]` for attributes and items.
        precedence: how tightly it binds, from 0 for comparisons to 9 for attributes and items.
        kind: where it stands; one that is `"in place"` or an `"assignment"` changes its first
            operand.
        opposite: of a comparison, what holds where this does not.
    """

    text: str
    precedence: int
    kind: Literal["infix", "prefix", "access", "in place", "assignment"] = "infix"
    opposite: Callable[..., Any] | None = None


@dataclass(frozen=True)
class FunctionRule:
    """What is known of a function: what it does to channels, and how a call of it is written.

    Attributes:
        calculate: `(channels, operation)` to what the function returns, `Signal` for tensor.
        rewrite: the arguments for the kept widths; `None` where no literal counts channels.
        understands: the kinds of a tensor's origin that `calculate` asks for. `Channels.plain`
            says as what others are met.
        reorders: whether it only reorders or takes places, so that zeros stay zero.
        takes: `"one"` place by its number, whose axis is gone then, or a `"run"` of places.
        infers_size: whether it finds out a size that is given as -1.
        makes: whether it makes a tensor of no other, so that such calls of it are followed, too.
        keeps_numbers: whether it computes with numbers that it is given, so that one which counts
            channels has to stay what it was.
        sign: of an operator of Python.
        linear_map: of a function that mixes channels by a weight, a call with the tensors
            themselves to the map that it is, so that the weight can be refitted.
    """

    calculate: Calculate
    rewrite: Rewrite | None = None
    understands: tuple[type[Origin], ...] = ()
    reorders: bool = False
    takes: Literal["one", "run"] | None = None
    infers_size: bool = False
    makes: bool = False
    keeps_numbers: bool = False
    sign: Sign | None = None
    linear_map: Callable[[Operation], LinearMap] | None = None


_QUESTIONS = """
    eq ge greater greater_equal gt isfinite isinf isnan le less less_equal logical_and logical_not
    logical_or logical_xor lt ne not_equal
"""  # answered by true or false


# what makes places that are alike of such: not what draws, or is changed in place
_OF_ALIKE = "abs add clamp div exp masked_fill mul multiply neg relu sub subtract truediv where"


def elementwise(channels: Channels, operation: Operation) -> Signal:
    """Place by place: the tensors among the arguments are coupled."""
    arguments = [*operation.args, *operation.kwargs.values()]
    is_operator = getattr(operator, operation.name, None) is operation.function
    if is_operator and any(argument is None for argument in arguments):
        raise TypeError("of its operands one is None")
    tensors = [value for value in arguments if isinstance(value, Signal)]
    merged = [one for one in arguments if isinstance(one, Count | Ratio) and one.is_merged]
    for ids in counted(merged):
        channels.pin(ids, f"{operation.name} depends on how many there are, and on other sizes")
    _count_kept(channels, operation, [] if merged else counted(arguments), tensors)
    met = channels.couple(*channels.meeting(tensors))
    answers = operation.name in _QUESTIONS.split()
    is_plain = not answers and all(x.meta.dtype is torch.float32 for x in tensors)
    dtype = torch.float32 if is_plain else kind_of(operation.run(channels))
    alike = _still_alike(tensors, met) if operation.name in _OF_ALIKE.split() else None
    return Signal(shaped(met.shape, dtype), met.ids, alike)  # contiguous, as torch's results are


def _still_alike(tensors: Sequence[Signal], met: Signal) -> Expanded | None:
    """That places along some axes are alike, as they were in the one tensor that has these.

    Args:
        tensors: what has met, place by place.
        met: the result.
    """
    before = [one for one in tensors if one.filled is not None and one.shape == met.shape]
    filled = before[0].filled if len(before) == 1 else None
    if filled is None:
        return None
    expanded = before[0].origin_as(Expanded)
    alike = expanded.axes if expanded else {axis: axis for axis in range(met.ndim)}
    others = [(1,) * (met.ndim - x.ndim) + x.shape for x in tensors if x is not before[0]]
    axes = {
        axis: of_call
        for axis, of_call in alike.items()
        if not met.carries_channels(axis)
        and all(shape[axis] == 1 for shape in others)
        and (filled.ids is None or filled.axis == of_call)
    }
    return Expanded(axes, filled) if axes else None


def _count_kept(
    channels: Channels, operation: Operation, counts: Sequence[Ids], tensors: Sequence[Signal]
) -> None:
    """Let what is divided by a number of channels be so in the masked original, as in a mean.

    Any other number that a forward computes of theirs stays what it was.
    """
    if counts and not channels.states_numbers:
        for ids in counts:
            channels.pin(ids, f"{operation.name} depends on how many there are")
        return
    reduced = [origin.ids for tensor in tensors if (origin := tensor.origin_as(Reduced))]
    same = [*reduced, *counts]
    if reduced and counts and all(np.array_equal(ids.ravel(), same[0]) for ids in same):
        leaves = leaves_of((operation.args, dict(operation.kwargs)))
        numbers = {n: leaf for n, leaf in enumerate(leaves) if isinstance(leaf, Count | Ratio)}
        for_kept = functools.partial(_for_kept, operation.function, numbers)
        channels.masked_function(same[0], for_kept)


def _for_kept(
    function: Callable[..., Any],
    numbers: Mapping[int, Count | Ratio],
    kept: Tensor,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """A call that is given the numbers of the kept channels, by their place among all arguments."""
    leaves, structure = pytree.tree_flatten((args, kwargs))
    for place, number in numbers.items():
        leaves[place] = number.of(len(kept))
    args, kwargs = pytree.tree_unflatten(leaves, structure)
    return function(*args, **kwargs)


def spatial(axes: int) -> Calculate:
    """The rule of a function that works on each channel's last axes, as pooling does.

    Args:
        axes: how many last axes it works along.
    """

    def calculate(channels: Channels, operation: Operation) -> Any:
        tensor = operation.tensor
        result = operation.run(channels)
        last = range(tensor.ndim - axes, tensor.ndim)
        ids = channels.pin_axes(tensor, last, operation.name).ids
        if isinstance(result, Tensor):
            return Signal(result, ids)
        return tuple(Signal(meta, ids) for meta in result)

    return calculate


def everywhere(names: str, rule: FunctionRule) -> dict[Callable[..., Any], FunctionRule]:
    """A rule for the functions and methods of these names, the in-place forms among them."""
    forms = [form for name in names.split() for form in (name, f"{name}_")]
    spaces = (torch, F, Tensor, torch.special)
    found = [getattr(space, form) for space in spaces for form in forms if hasattr(space, form)]
    return dict.fromkeys(found, rule)
