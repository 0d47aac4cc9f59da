"""Calls that fill a new tensor with a number, which may be given as a tensor."""

from __future__ import annotations

from typing import Any

from torch import Tensor

_FILLING = ("full", "full_like", "new_full")


def with_numbers(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call with a number in the place of a tensor without storage that is one.

    Args:
        name: of the function.
        args: its arguments.
        kwargs: likewise, by name.
    """
    if name not in _FILLING:
        return args, kwargs
    given = tuple(_number(value) if place else value for place, value in enumerate(args))
    return given, {key: _number(value) for key, value in kwargs.items()}


def _number(value: Any) -> Any:
    return 0.0 if isinstance(value, Tensor) and value.is_meta and not value.ndim else value
