"""The records of all functions that the core knows, by function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prunecore.functions import (
    assignment,
    concatenation,
    filling,
    folding,
    indexing,
    pointwise,
    products,
    reductions,
    reshaping,
    spatial,
)
from prunecore.functions.rule import FunctionRule

RULES: Mapping[Callable[..., Any], FunctionRule] = {
    **pointwise.RULES,
    **reshaping.RULES,
    **filling.RULES,
    **concatenation.RULES,
    **reductions.RULES,
    **indexing.RULES,
    **assignment.RULES,
    **folding.RULES,
    **products.RULES,
    **spatial.RULES,
}


SIGNS = {function: rule.sign for function, rule in RULES.items() if rule.sign}
