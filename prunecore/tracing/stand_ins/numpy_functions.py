"""What Python has for functions of NumPy, for a forward that calls them with sizes."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

# functions of NumPy that its numbers call for operators
OF_NUMPY: Mapping[Any, Callable[..., Any]] = {
    np.add: operator.add,
    np.floor_divide: operator.floordiv,
    np.multiply: operator.mul,
    np.negative: operator.neg,
    np.power: operator.pow,
    np.remainder: operator.mod,
    np.subtract: operator.sub,
    np.true_divide: operator.truediv,
    np.equal: operator.eq,
    np.greater: operator.gt,
    np.greater_equal: operator.ge,
    np.less: operator.lt,
    np.less_equal: operator.le,
    np.not_equal: operator.ne,
}


OF_NUMBERS: Mapping[Any, Callable[..., Any]] = {
    getattr(np, name): getattr(math, name)
    for name in ("ceil", "exp", "floor", "log", "log2", "sqrt")
}
