"""Functions that `torch.fx.wrap` marks: a trace calls them, rather than to go through them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch.fx import _symbolic_trace


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
