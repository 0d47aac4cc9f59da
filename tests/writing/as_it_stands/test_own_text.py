"""Texts of users' own functions, classes and constants."""

from __future__ import annotations

import functools
import logging
import math as mathematics
import operator
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import Tensor
from torch.nn.functional import softplus

from prunecore.errors import UnwritableError
from prunecore.writing.as_it_stands.own_text import OwnTexts, variables_of

if TYPE_CHECKING:
    from collections.abc import Sequence

SCALES = (1, 2.5, float("inf"))
logger = logging.getLogger(__name__)
double = functools.partial(operator.mul, 2)
ARRAY = np.ones(2)


@dataclass
class Box:
    size: int = 3

    def area(self) -> float:
        return mathematics.pi * self.size**2


def helped(x: Tensor, other: Optional[Tensor] = None) -> Any:  # noqa: UP045
    logger.debug("called")
    return softplus(x) + functional.relu(x) + SCALES[0] + again(x, 0)


def again(x: Tensor, depth: int, *others: Sequence[int]) -> Any:
    held = OrderedDict(x=x, box=Box())
    return held["x"] if depth else helped(x) * double(2)


def counting(x: Tensor) -> Tensor:
    return x + ARRAY.sum()


def numpyish(x: Tensor) -> Tensor:
    return x * np.pi


def test_all_that_a_function_uses_comes_with_it() -> None:
    texts = OwnTexts(())
    assert texts.define(helped) == "helped"
    assert texts.texts["SCALES"] == 'SCALES = (1, 2.5, float("inf"))\n'
    assert texts.texts["logger"] == "logger = logging.getLogger(__name__)\n"
    assert texts.texts["double"] == "double = functools.partial(operator.mul, 2)\n"
    assert texts.texts["Box"].startswith("@dataclass\nclass Box:\n    size: int = 3\n")
    names = list(texts.texts)
    assert names.index("SCALES") < names.index("helped")
    assert texts.imports == {
        "import functools",
        "import logging",
        "import math as mathematics",
        "import torch.nn.functional as functional",
        "from collections.abc import Sequence",
        "from dataclasses import dataclass",
        "from torch.nn.functional import softplus",
        "from typing import Optional",
    }
    assert {"Box", "again", "softplus", "mathematics"} <= texts.names
    body = "\n\n".join(texts.texts.values())
    head = "\n".join([*texts.imports, "import operator", "from collections import OrderedDict"])
    meanings: dict[str, Any] = {"Tensor": Tensor, "Any": Any}
    exec(f"{head}\n{body}", meanings)
    assert meanings["again"](torch.zeros(1), 1) == 0


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (counting, "counting uses ARRAY, an ndarray, which no file can state"),
        (numpyish, "numpyish uses np, and a written file has torch and the standard library"),
        (lambda x: x, "it uses a lambda, which has no name in a written file"),
        (eval("lambda x: x", {}), "it uses a lambda"),
    ],
    ids=["array", "library", "lambda", "evaluated"],
)
def test_what_a_file_cannot_have_is_refused_by_name(function: Any, reason: str) -> None:
    with pytest.raises(UnwritableError, match=reason):
        OwnTexts(()).define(function)


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(UnwritableError, match="two different things in it are called helped"):
        OwnTexts({"helped"}).define(helped)


def test_what_a_function_closes_over_is_known() -> None:
    inner = 3

    def closing(x: Tensor) -> Tensor:
        return x + inner

    assert variables_of(closing)["inner"] == 3
    texts = OwnTexts(())
    texts.define(closing)
    assert texts.texts["inner"] == "inner = 3\n"
