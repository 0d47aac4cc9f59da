"""torch's functions that make tensors, which take sizes one by one, but no stand-in of one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx

_FACTORIES = (torch.empty, torch.ones, torch.rand, torch.randn, torch.zeros)


@contextmanager
def traced_factories() -> Iterator[None]:
    """Let a forward that is traced make tensors of sizes that it reads, as `torch.zeros(n, 3)`."""
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
        # torch looks at the first size alone, and takes it for a tensor
        if sizes and issubclass(type(sizes[0]), fx.Proxy):
            return sizes[0].tracer.create_proxy("call_function", factory, sizes, options)
        return factory(*sizes, **options)

    return make
