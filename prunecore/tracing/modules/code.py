"""What the code of modules and functions is made of, with all that it calls, as far as is seen."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from prunecore.isolation.state import TORCH


def methods_of(classes: Iterable[Any]) -> list[tuple[str, types.FunctionType]]:
    """The functions of classes by their names, those of properties too, but for constructors."""
    return [(name, one) for name, one in _functions_of(classes) if name != "__init__"]


def _functions_of(classes: Iterable[Any]) -> Iterator[tuple[str, types.FunctionType]]:
    for cls in classes:
        for name, value in vars(cls).items():
            for function in (value, *(getattr(value, way, None) for way in _WAYS)):
                if isinstance(function, types.FunctionType):
                    yield name, function


_WAYS = ("fget", "func", "__func__", "__wrapped__")  # to the function of a property or decorator


def code_of(functions: Iterable[types.FunctionType]) -> list[types.CodeType]:
    """The code of functions, of those within them, and of all that they name but for torch's.

    What they name are the variables of their files and of those around them: other functions, and
    the methods of classes.
    """
    found: dict[types.CodeType, None] = {}
    waiting: list[Any] = [*functions]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen or _is_of_torch(one):
            continue
        seen.add(id(one))
        if isinstance(one, types.FunctionType):
            codes = [*_within(one.__code__)]
            found |= dict.fromkeys(codes)
            waiting += _named(one, {name for code in codes for name in code.co_names})
        elif isinstance(one, functools.partial):
            waiting.append(one.func)
        elif isinstance(one, type) and not issubclass(one, nn.Module):
            waiting += [function for _, function in _functions_of(one.__mro__)]
    return [*found]


def _within(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _within(const)


def _named(function: types.FunctionType, names: Iterable[str]) -> Iterator[Any]:
    """What a function finds under names, in its file, in those that it imports, and around it."""
    found = [function.__globals__[name] for name in names if name in function.__globals__]
    yield from found
    for file in found:
        if isinstance(file, types.ModuleType):
            yield from (vars(file)[name] for name in names if name in vars(file))
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # nothing yet
            continue


def _is_of_torch(value: Any) -> bool:
    if isinstance(value, types.FunctionType):
        return value.__code__.co_filename.startswith(TORCH)
    package = str(value.__module__).partition(".")[0] if isinstance(value, type) else ""
    return package in ("builtins", "torch")


def names_in(codes: Iterable[types.CodeType]) -> set[str]:
    """The names and words that code mentions, those of arguments by name among them."""
    names: set[str] = set()
    for code in codes:
        names.update(code.co_names)
        for const in code.co_consts:
            parts = const if isinstance(const, tuple) else [const]
            names.update(part for part in parts if isinstance(part, str))
    return names
