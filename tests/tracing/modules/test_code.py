"""What the code of modules and functions is made of."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from prunecore.tracing.modules import changes
from prunecore.tracing.modules.code import code_of, methods_of, names_in


def of(function: Any) -> set[str]:
    return {code.co_name for code in code_of([function])}


def inner(x: Tensor) -> Tensor:
    return x.sigmoid()


class Doubling:
    def __init__(self, times: int) -> None:
        self.times = times

    def doubled(self, x: Tensor) -> Tensor:
        return inner(x) * self.times


half = functools.partial(inner)


def calls_a_function(x: Tensor) -> Tensor:
    return inner(x)


def calls_a_method(x: Tensor) -> Tensor:
    return Doubling(2).doubled(x)


def calls_in_a_file(x: Any) -> bool:
    return changes.function_may_change_tensors(x)


def calls_a_partial(x: Tensor) -> Tensor:
    return half(x)


def calls_torch(x: Tensor) -> Tensor:
    return torch.nn.functional.relu(x)


def around(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def calls_what_is_around(x: Tensor) -> Tensor:
        return function(x)

    return calls_what_is_around


def test_what_a_function_calls_belongs_to_its_code() -> None:
    assert of(calls_a_function) == {"calls_a_function", "inner"}
    assert of(calls_a_partial) == {"calls_a_partial", "inner"}
    assert of(around(inner)) >= {"inner"}
    assert of(calls_a_method) >= {"__init__", "doubled", "inner"}
    assert of(calls_in_a_file) >= {"function_may_change_tensors", "code_of"}


def test_torchs_own_code_does_not() -> None:
    assert of(calls_torch) == {"calls_torch"}


def test_functions_within_a_function_do() -> None:
    assert len(code_of([lambda x: (lambda y: y + 1)(x)])) == 2


def test_functions_that_call_one_another_are_seen_once() -> None:
    assert of(even) == {"even", "odd"}


def even(number: int) -> bool:
    return number == 0 or odd(number - 1)


def odd(number: int) -> bool:
    return number != 0 and even(number - 1)


def test_names_and_words_are_those_that_code_mentions() -> None:
    def function(x: Any) -> Any:
        return torch.add(x.size("N"), 1, out=x)

    assert names_in(code_of([function])) >= {"torch", "add", "size", "N", "out"}


def test_methods_are_those_of_properties_and_decorators_but_no_constructors() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()

        def forward(self, x: Tensor) -> Tensor:
            return x

        @property
        def width(self) -> int:
            return 1

        @staticmethod
        def made() -> int:
            return 1

        @functools.cached_property
        def kept(self) -> int:
            return 1

    assert {name for name, _ in methods_of([Block])} == {"forward", "width", "made", "kept"}
