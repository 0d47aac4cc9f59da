"""Which function the forward of a module is, and what that may return."""

from __future__ import annotations

import dis
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

from torch import nn

from prunecore.isolation.state import TORCH


def forward_of(module: nn.Module) -> Callable[..., Any]:
    """The function that is a module's forward: its class's, one of its methods, or another."""
    chosen = vars(module).get("forward", type(module).forward)
    while isinstance(chosen, functools.partial):
        chosen = chosen.func
    function: Callable[..., Any] = getattr(chosen, "__func__", chosen)
    return function


def may_return_none(function: Callable[..., Any]) -> bool:
    """True if a function of Python has a `return None`, or an end without any."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code is not None and not code.co_filename.startswith(TORCH) and _has_none(code)


@functools.lru_cache(256)
def _has_none(code: types.CodeType) -> bool:
    steps = [*dis.get_instructions(code)]
    return any(
        one.argval is None
        and (one.opname == "RETURN_CONST" or (one.opname == "LOAD_CONST" and other.opname in _ENDS))
        for one, other in zip(steps, [*steps[1:], *steps[-1:]], strict=True)
    )


_ENDS = ("RETURN_VALUE", "JUMP_FORWARD")
