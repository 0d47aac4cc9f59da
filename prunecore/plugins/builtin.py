"""The built-in plugin: the core's own criteria, and its rules for functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prunecore.criteria.criterion import Criterion
from prunecore.criteria.magnitude import l1_norm
from prunecore.criteria.random import random, random_weighted
from prunecore.functions.rule import FunctionRule
from prunecore.functions.table import RULES
from prunecore.hookspecs import hookimpl


@hookimpl
def prunecore_functions() -> Mapping[Callable[..., Any], FunctionRule]:
    """The rules for the functions of torch that people call between layers."""
    return RULES


@hookimpl
def prunecore_criteria() -> Mapping[str, Criterion]:
    """The modes `random`, `random-weighted` and `l1-norm`."""
    return {"random": random, "random-weighted": random_weighted, "l1-norm": l1_norm}
