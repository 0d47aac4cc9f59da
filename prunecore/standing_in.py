"""What Python and torch are while a forward is traced: stand-ins pass for what they stand for."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.autograd.function import Function
from torch.utils.checkpoint import CheckpointFunction

from prunecore.proxies import Known


@contextmanager
def standing_in() -> Iterator[None]:
    """Let `isinstance` say what things stand for, and call no gradient that is not torch's own.

    Only Python's `isinstance`: torch's, in C, would look for a tensor in memory and crash.
    """
    isinstance_, apply = builtins.isinstance, vars(Function)["apply"]

    def is_any(value: Any, kinds: Any, /) -> bool:
        return isinstance_(value, kinds) or (isinstance_(value, Known) and value.is_any(kinds))

    builtins.isinstance = is_any
    Function.apply = classmethod(_apply)
    try:
        yield
    finally:
        builtins.isinstance = isinstance_
        Function.apply = apply


def _apply(function: type[Function], *args: Any) -> Any:
    if issubclass(function, CheckpointFunction):
        run, _, *given = args
        return run(*given)
    raise torch.fx.proxy.TraceError(
        f"it calls {function.__name__}.apply, which has a gradient of its own"
    )
