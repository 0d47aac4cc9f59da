"""One input of a network without its values: its type, sizes and range, and how they are spelt."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prunecore.errors import InputShapeError, UsageError, unknown_name
from prunecore.escaping import shown_value

# By the name that torch and numpy have for it; floating point is taken in the network's own type.
DTYPES = {
    "float": torch.float32,
    "float16": torch.float32,
    "bfloat16": torch.float32,
    "float32": torch.float32,
    "float64": torch.float32,
    "bool": torch.bool,
    "uint8": torch.uint8,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "int": torch.int64,
    "long": torch.int64,
}

BATCH_SIGN = "*"  # stands among the sizes of an input where its batch is not the first axis

SHARED = "shared"  # said of an input that has no batch: one for all of it

_SPELLING = "such as image:float32[3,224,224], tokens:int64[128]<30000 or mask:bool[128]"

_NUMBER = r"[-+]?(?:[0-9]{1,18}(?:\.[0-9]{1,30})?|\.[0-9]{1,30})(?:[eE][-+]?[0-9]{1,3})?"

_PARTS = re.compile(
    rf"""
    \s* (?P<dtype>[^\W\d]\w*) \s*
    \[ (?P<sizes>[^\[\]]*) \] \s*
    (?: < \s* (?P<below>{_NUMBER}) | (?P<low>{_NUMBER}) \s* \.\. \s* (?P<high>{_NUMBER}) )? \s*
    (?P<shared>{SHARED})? \s*
    """,
    re.VERBOSE | re.ASCII,
)

_MOST_AXES = 15  # of an input; numpy's arrays, as of its channels' ids, have 32 at least
_MOST_VALUES = 2**30  # of an input: 8 GiB in the float64 of verification


@dataclass(frozen=True)
class TypedInput:
    """What a tensor that a network is called with is like.

    Attributes:
        shape: without the batch.
        dtype: `torch.float32` for any of floating point, which is taken in the network's own type.
        low: the smallest value, whole where these are; `None` for normally distributed ones, and
            for both truth values.
        high: the largest value, likewise.
        is_shared: whether it has no batch: the same tensor for all of it, as a mask over positions.
        batch_axis: where the batch lies; the states of recurrent layers have it second.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    low: float | None = None
    high: float | None = None
    is_shared: bool = False
    batch_axis: int = 0

    def __post_init__(self) -> None:
        """Refuse what no walk and no proof has room for.

        Raises:
            InputShapeError: it is too large.
        """
        if len(self.shape) > _MOST_AXES or math.prod(self.shape) > _MOST_VALUES:
            raise InputShapeError(
                f"An input of the shape {shown_value(self.shape)} is too large: it may have "
                f"{_MOST_AXES} axes and {_MOST_VALUES:,} values.\n"
                "Give the shape of one input, without the batch (--input-shape)."
            )

    def __str__(self) -> str:
        """As `read_typed_input` takes it."""
        name = next(name for name, dtype in DTYPES.items() if dtype is self.dtype)
        sizes = list(map(str, self.shape))
        if self.batch_axis:
            sizes.insert(self.batch_axis, BATCH_SIGN)
        text = f"{name}[{','.join(sizes)}]"
        if self.low == 0 and self.high is not None and not self.is_float:
            text += f"<{int(self.high) + 1}"
        elif self.low is not None:
            text += f" {self.low}..{self.high}"
        return f"{text} {SHARED}" if self.is_shared else text

    @property
    def is_float(self) -> bool:
        """True for floating point numbers."""
        return self.dtype.is_floating_point

    def sizes(self, batch: int) -> tuple[int, ...]:
        """The shape of the tensor, with the batch if it has one."""
        axis = self.batch_axis
        return self.shape if self.is_shared else (*self.shape[:axis], batch, *self.shape[axis:])

    def on_meta(self, batch: int) -> Tensor:
        """A tensor of this shape and type that has no storage."""
        return torch.empty(self.sizes(batch), dtype=self.dtype, device="meta")

    def drawn(self, batch: int, generator: torch.Generator) -> Tensor:
        """Values of this type and range, those of floating point in float64.

        Truth values are half `True` and half `False` along the last axis, so that no row of a mask
        is empty.
        """
        sizes = self.sizes(batch)
        if self.dtype is torch.bool and self.low is None:
            order = torch.rand(sizes, generator=generator).argsort(-1) if sizes else torch.ones(())
            return order % 2 == 0
        if not self.is_float:
            assert self.low is not None
            assert self.high is not None
            low, above = int(self.low), int(self.high) + 1
            return torch.randint(low, above, sizes, generator=generator, dtype=self.dtype)
        noise = torch.randn(sizes, dtype=torch.float64, generator=generator)
        if self.low is None or self.high is None:
            return noise
        spread: Tensor = self.low + (self.high - self.low) * torch.special.ndtr(noise)
        return spread


def read_typed_input(text: str) -> TypedInput:
    """`DTYPE[SIZES]`, with a range where there is one: `int64[128]<30000`, `float[3,8,8] 0..1`.

    Args:
        text: sizes are those of one example, without the batch, which `*` stands for where it is
            not the first axis; `shared` at its end says that the tensor has none.

    Raises:
        UsageError: it is none.
        InputShapeError: it is too large.
    """
    found = _PARTS.fullmatch(text)
    if found is None:
        raise UsageError(f"an input is a type with sizes, {_SPELLING}, {_what_is_wrong(text)}.")
    named, sizes = found["dtype"], found["sizes"].strip()
    if named not in DTYPES:
        raise unknown_name("type of an input", named, DTYPES)
    dtype = DTYPES[named]
    shape = [size.strip() for size in sizes.split(",")] if sizes else []
    batch_axis = 0
    if shape.count(BATCH_SIGN) == 1 and not found["shared"]:
        batch_axis = shape.index(BATCH_SIGN)
        del shape[batch_axis]
    if not all(re.fullmatch("[0-9]{1,18}", size, re.ASCII) and int(size) for size in shape):
        raise UsageError(
            "the sizes of an input are whole numbers above 0, of one example without the batch, "
            f"{_SPELLING}, not {shown_value(found['sizes'])}."
        )
    low, high = _range(text, found, dtype)
    is_shared = found["shared"] is not None
    return TypedInput(tuple(map(int, shape)), dtype, low, high, is_shared, batch_axis)


def _what_is_wrong(text: str) -> str:
    """Why a text is no input, as far as that can be told."""
    given = shown_value(text)
    if text.count("[") > text.count("]"):
        return f"and {given} lacks a closing bracket"
    if text.count("]") > text.count("["):
        return f"and {given} lacks an opening bracket"
    if "[" not in text:
        return f"and {given} has no sizes in brackets"
    return f"not {given}"


def _range(text: str, found: re.Match[str], dtype: torch.dtype) -> tuple[Any, Any]:
    """The smallest and the largest value, inclusive."""
    below, low, high = found["below"], found["low"], found["high"]
    has_none = below is None and low is None
    if dtype is torch.bool and has_none:
        return None, None
    if dtype.is_floating_point:
        if below is not None:
            raise UsageError(
                "the range of floating point numbers has two ends, such as float[3,8,8] 0..1, "
                f"not {shown_value(text)}."
            )
        bounds = None if has_none else (float(low), float(high))
    elif has_none:
        raise UsageError(
            f"{shown_value(text)} is of whole numbers, and which is not said: give how many there "
            f"are, such as '{text.strip()}<30000' for 0 to 29999, or both ends, "
            f"'{text.strip()} 1..5' (in quotes: a shell reads < as its own)."
        )
    elif any(end and not re.fullmatch("[-+]?[0-9]+", end) for end in (below, low, high)):
        raise UsageError(f"the range of whole numbers has whole ends, not {shown_value(text)}.")
    else:
        bounds = (int(low or 0), int(high) if below is None else int(below) - 1)
    if bounds is None:
        return None, None
    least, most = _limits(dtype)
    if not least <= bounds[0] <= bounds[1] <= most:
        raise UsageError(f"the range of {shown_value(text)} holds no value, or more than its type.")
    return bounds


def _limits(dtype: torch.dtype) -> tuple[float, float]:
    """The smallest and the largest value of a type."""
    if dtype is torch.bool:
        return 0, 1
    limits = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
    return limits.min, limits.max
