"""Whether a module or function may change a tensor in place, as far as its code tells."""

from __future__ import annotations

import dis
import functools
import inspect
import types
from collections.abc import Collection
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from prunecore.isolation.state import TORCH
from prunecore.tracing.modules.attributes import options_of
from prunecore.tracing.modules.code import code_of, methods_of, names_in
from prunecore.tracing.modules.scopes import mentioned


def may_change_tensors(module: nn.Module, in_training: bool) -> bool:
    """True unless a module, apart from its children, is known to change no tensor in place.

    Args:
        module: one that is not traced.
        in_training: the mode in which it is called.
    """
    if getattr(module, "inplace", False) is not False or getattr(module, "max_norm", None):
        return True
    if in_training and [*module.buffers(recurse=False)]:  # statistics, say
        return True
    cls: Any = type(module)
    return any(callable(value) for _, value in options_of(module)) or _writes(cls)


def function_may_change_tensors(function: Any) -> bool:
    """True unless a function is known to change no tensor in place, or is torch's own.

    Of torch's own the name tells that, or how it is called.
    """
    if isinstance(function, types.FunctionType):
        is_own = function.__code__.co_filename.startswith(TORCH)
        is_keeping = function.__name__ in _KEEPING
        return is_keeping if is_own else _change(code_of([function]))
    return isinstance(function, torch._ops.OperatorBase | torch._ops.OpOverloadPacket)


@functools.cache
def _writes(cls: Any) -> bool:
    called = {"forward", *mentioned(cls, ())}
    methods = methods_of(base for base in cls.__mro__ if not _is_of_torch(base))
    reached = (one for name, one in methods if name in called or name.startswith("__"))
    return _change(code_of(reached))


def _is_of_torch(cls: type) -> bool:
    return cls is object or str(cls.__module__).startswith("torch.nn.")


def _change(codes: Collection[types.CodeType]) -> bool:
    """True if code may change a tensor in place, or may do anything."""
    names = names_in(codes)
    if not names.isdisjoint(_TELLING) or any(map(_is_in_place, names)):
        return True
    return any(map(_assigns, codes))


def _is_in_place(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__")


def _assigns(code: types.CodeType) -> bool:
    """True if code sets what is in a tensor, by `x[0] = y`, `x += y` or `relu(x, True)`."""
    steps = [*dis.get_instructions(code)]
    for before, step in zip([*steps[:1], *steps], steps, strict=False):
        if step.opname in _ASSIGNING or step.opname.startswith("INPLACE_"):
            return True
        if step.opname == "BINARY_OP" and step.argrepr.endswith("="):
            return True
        if step.argval in _IN_PLACE_BY_PLACE and step.opname.startswith("LOAD_"):
            is_of_child = step.opname != "LOAD_GLOBAL" and before.opname.startswith("LOAD_FAST")
            if not is_of_child:
                return True
    return False


_ASSIGNING = ("STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE", "IMPORT_NAME")


# of torch's functions, those that may be told by place to change what they are given
_IN_PLACE_BY_PLACE = {
    name
    for name, function in vars(F).items()
    if inspect.isfunction(function) and "inplace" in inspect.signature(function).parameters
}


# torch's functions that may keep statistics in what they are given, or norm its rows
_KEEPING = frozenset({"batch_norm", "instance_norm", "embedding", "embedding_bag"})


# names by which code may come to do anything, or changes a tensor that does not end so
_TELLING = _KEEPING | {"inplace", "out", "data", "setattr", "getattr", "exec", "eval", "ops"}
