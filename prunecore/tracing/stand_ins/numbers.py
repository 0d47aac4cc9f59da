"""Python's functions of numbers and `torch.Size`, for a forward that gives them sizes it reads.

Python has `int(h * 0.5)` make a number at once. What stands for `int`, in the module of Python that
calls it, makes a node of a trace, so that the written forward computes it for any size.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch

from prunecore.tracing.stand_ins.proxies import Known


class _Kind(type):
    """What stands for a type of numbers: calls with stand-ins are noted, all else is the type's."""

    of: type

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if len(args) != 1 or kwargs or not _is_number(args[0]):
            return cls.of(*args, **kwargs)
        return args[0].tracer.create_proxy("call_function", cls.of, args, {})

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, cls.of)

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(other, cls.of)

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls.of, name)


class _Sizes(_Kind):
    """What stands for `torch.Size`: of sizes that are read, it makes a tuple."""

    def __call__(cls, *args: Any) -> Any:
        items = tuple(*args)
        are_known = not any(issubclass(type(item), Known) for item in items)
        return cls.of(items) if are_known else items


def _is_number(value: Any) -> bool:
    """True of what stands for a number that shapes tell."""
    return issubclass(type(value), Known) and type(value.tracer.known(value)) in (int, float)


def _chosen(function: Callable[..., Any]) -> Callable[..., Any]:
    """`max` or `min`, of numbers some of which are stand-ins."""

    @functools.wraps(function)
    def choose(*args: Any, **kwargs: Any) -> Any:
        given = [*args[0]] if len(args) == 1 else args
        first = next(filter(_is_number, given), None)
        are_numbers = all(_is_number(value) or type(value) in (int, float) for value in given)
        if kwargs or first is None or not are_numbers:
            return function(given, **kwargs)
        return first.tracer.create_proxy("call_function", function, tuple(given), {})

    return choose


# What stands for them, by name.
OF_SIZES: Mapping[str, Any] = {
    "int": _Kind("int", (), {"of": int}),
    "float": _Kind("float", (), {"of": float}),
    "max": _chosen(max),
    "min": _chosen(min),
}

SIZES = _Sizes("Size", (), {"of": torch.Size})
