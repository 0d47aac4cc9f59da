"""What is replaced in the process while a forward is traced."""

from __future__ import annotations

import builtins
import functools
import inspect
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx
from torch.autograd.function import Function
from torch.fx import _symbolic_trace
from torch.utils.checkpoint import CheckpointFunction

from prunecore.tracing.tracer import Known

_NAMES = "arange empty eye full linspace logspace ones rand randint randn tensor zeros"


_FACTORIES = [getattr(torch, name) for name in _NAMES.split()]


@contextmanager
def traced_factories() -> Iterator[None]:
    """Let a forward that is traced make tensors of what it reads, `torch.zeros(x.size(0), 3)`."""
    for factory in _FACTORIES:
        setattr(torch, factory.__name__, _traced(factory))
    try:
        yield
    finally:
        for factory in _FACTORIES:
            setattr(torch, factory.__name__, factory)


def _traced(factory: Callable[..., Tensor]) -> Callable[..., Any]:
    @functools.wraps(factory)
    def make(*sizes: Any, **options: Any) -> Any:
        # torch takes the first of several sizes for a tensor, and no stand-in for a device
        for given in (*sizes, *options.values()):
            if isinstance(given, fx.Proxy):
                return given.tracer.create_proxy("call_function", factory, sizes, options)
        return factory(*sizes, **options)

    return make


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


@contextmanager
def layer_by_layer() -> Iterator[None]:
    """Let transformers call the layers within them, as in training: those are what is cut."""
    is_fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(is_fused)


@contextmanager
def only_wrapped(known: Collection[Callable[..., Any]]) -> Iterator[None]:
    """Let traces go through all functions of Python that are marked, but for these.

    Args:
        known: the functions that there are rules for.
    """
    marked = _symbolic_trace._wrapped_fns_to_patch  # (..., name) to the module's variables
    followed = {
        key: variables
        for key, variables in marked.items()
        if inspect.isfunction(function := variables.get(key[1])) and function not in known
    }
    for key in followed:
        del marked[key]
    try:
        yield
    finally:
        marked.update(followed)
