"""The core's own plugin: its criteria, and its rules for functions."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch.nn.functional as F

from prunecore.channels.signal import Computed
from prunecore.criteria.criterion import Criterion
from prunecore.criteria.magnitude import l1_norm
from prunecore.criteria.random import random, random_weighted
from prunecore.functions import folding, indexing, products, reductions, reshaping
from prunecore.functions.pointwise import (
    _ELEMENTWISE,
    _OPERATORS,
    _add,
    _attribute,
    _cast,
    _count,
    _size,
)
from prunecore.functions.rule import (
    FunctionRule,
    elementwise,
    everywhere,
)
from prunecore.functions.spatial import _interpolate, _pad, _pools, _write_pad
from prunecore.hookspecs import hookimpl


@hookimpl
def prunecore_functions() -> Mapping[Callable[..., Any], FunctionRule]:
    """The rules for the functions of torch that people call between layers."""
    operators = [getattr(operator, name) for name in _OPERATORS.split()]
    by_place = FunctionRule(elementwise, understands=(Computed,))
    return {
        **dict.fromkeys(operators, by_place),
        operator.add: FunctionRule(_add, understands=(Computed,)),
        **everywhere(_ELEMENTWISE, by_place),
        **everywhere("to float double half bfloat16 type_as long int bool", FunctionRule(_cast)),
        **everywhere("size", FunctionRule(_size)),
        **everywhere("dim ndimension numel is_floating_point is_complex", FunctionRule(_count)),
        **reshaping.RULES,
        **reductions.RULES,
        **indexing.RULES,
        **folding.RULES,
        **products.RULES,
        **_pools(1),
        **_pools(2),
        **_pools(3),
        getattr: FunctionRule(_attribute),
        len: FunctionRule(_count),
        F.interpolate: FunctionRule(_interpolate),
        F.pad: FunctionRule(_pad, _write_pad),
    }


@hookimpl
def prunecore_criteria() -> Mapping[str, Criterion]:
    """The modes `random`, `random-weighted` and `l1-norm`."""
    return {"random": random, "random-weighted": random_weighted, "l1-norm": l1_norm}
