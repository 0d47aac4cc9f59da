"""Functions of torch, in Python, that a trace goes through: they do what many others do."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch.nn.functional as F

THROUGH: frozenset[Callable[..., Any]] = frozenset({F.multi_head_attention_forward})


@functools.cache
def gone_through(function: FunctionType) -> Callable[..., Any]:
    """The function as it is when it is given plain tensors, and asks none for another one."""
    variables = {**function.__globals__, "has_torch_function": lambda _: False}
    return FunctionType(function.__code__, variables, function.__name__, function.__defaults__)
