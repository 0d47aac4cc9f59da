"""What a rule is given, the rules that plugins build theirs of, and how operators are written."""

from __future__ import annotations

import ast
import itertools
import operator
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from prunecore import UnsupportedError
from prunecore.channels.ids import without_channels
from prunecore.channels.signal import shaped
from prunecore.functions.table import SIGNS
from prunecore.plugin import (
    Channels,
    FunctionRule,
    Operation,
    Signal,
    along,
    elementwise,
    hookimpl,
    spatial,
)
from prunecore.plugins.loading import register
from prunecore.registry import Plugins
from prunecore.walking.network import find_dependencies
from prunecore.walking.walk import Walk


@pytest.fixture
def channels(toys: Plugins) -> Walk:
    return Walk(nn.Identity(), toys)


def maps(channels: Channels, width: int = 3, axis: int = 1) -> Signal:
    shape = [2, 4, 4, 4]
    shape[axis] = width
    return Signal(shaped(shape), along(axis, 4, channels.fresh(width)))


def test_an_argument_is_found_by_place_or_by_name() -> None:
    operation = Operation(F.pad, ("x", (1, 1)), {"value": 2.0})
    assert operation.argument(1, "pad") == (1, 1)
    assert operation.argument(3, "value") == 2.0
    assert operation.argument(2, "mode", "constant") == "constant"
    assert operation.argument(2, "mode") is None
    assert operation.name == "pad"


def test_the_tensor_is_the_first_argument_or_the_one_of_that_name(channels: Channels) -> None:
    x = maps(channels)
    assert Operation(F.relu, (x,), {}).tensor is x
    assert Operation(F.relu, (), {"input": x}).tensor is x


@pytest.mark.parametrize("by_name", [False, True])
def test_an_operation_is_done_to_another_tensor(channels: Channels, by_name: bool) -> None:
    x = maps(channels)
    given: tuple[tuple[Any, ...], dict[str, Any]] = (
        ((), {"input": x, "dims": (0, 2, 3, 1)}) if by_name else ((x, (0, 2, 3, 1)), {})
    )
    operation = Operation(torch.permute, *given)
    assert operation.on(torch.rand(1, 2, 3, 4)).shape == (1, 3, 4, 2)
    assert operation.run(channels).shape == (2, 4, 4, 3)


def test_elementwise_couples_the_tensors_among_all_arguments(channels: Channels) -> None:
    a, b, c = maps(channels), maps(channels), maps(channels)
    met = elementwise(channels, Operation(torch.addcmul, (a, b), {"tensor2": c, "value": 0.5}))
    assert met.ids.ravel().tolist() == [0, 1, 2]
    pairs = [(x.tolist(), y.tolist()) for x, y in channels.records.couplings]
    assert pairs == [([0, 1, 2], [3, 4, 5]), ([0, 1, 2], [6, 7, 8])]


def test_elementwise_gives_the_shape_after_broadcasting(channels: Channels) -> None:
    gate = Signal(shaped((2, 1, 4, 4)), without_channels(4))
    met = elementwise(channels, Operation(torch.mul, (gate, maps(channels)), {}))
    assert met.shape == (2, 3, 4, 4)
    assert met.channel_axes == [1]


def test_spatial_leaves_channels_before_its_axes_alone(channels: Channels) -> None:
    x = maps(channels)
    out = spatial(2)(channels, Operation(F.max_pool2d, (x, 2), {}))
    assert out.shape == (2, 3, 2, 2)
    assert np.array_equal(out.ids, x.ids)
    assert channels.records.pins == []


@pytest.mark.parametrize("axis", [2, 3])
def test_spatial_leaves_channels_along_its_axes_whole(channels: Channels, axis: int) -> None:
    out = spatial(2)(channels, Operation(F.max_pool2d, (maps(channels, 6, axis), 2), {}))
    assert out.channel_axes == []
    (pin,) = channels.records.pins
    assert (pin[0].tolist(), pin[1]) == (list(range(6)), "max_pool2d mixes it")


def test_spatial_gives_every_tensor_that_is_returned_the_same_ids(channels: Channels) -> None:
    x = maps(channels)

    def pool(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (F.max_pool2d(tensor, 2), F.avg_pool2d(tensor, 4))

    out = spatial(2)(channels, Operation(pool, (x,), {}))
    assert [one.shape for one in out] == [(2, 3, 2, 2), (2, 3, 1, 1)]
    assert all(np.array_equal(one.ids, x.ids) for one in out)


def test_a_plugin_gives_a_rule_for_a_function(toys: Plugins) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.expit(self.before(x))

    @hookimpl
    def prunecore_functions() -> dict[Callable[..., Any], FunctionRule]:
        return {torch.special.expit: FunctionRule(elementwise)}

    x = torch.empty(2, 3, device="meta")
    with pytest.raises(UnsupportedError, match="forward calls special_expit"):
        find_dependencies(Net(), [x], toys)
    more = register(SimpleNamespace(prunecore_functions=prunecore_functions), "more", "more 1")
    found = find_dependencies(Net(), [x], Plugins([*toys.all, more]))
    assert found.forwards.visits[""][0].output.ids.ravel().tolist() == [0, 1, 2, 3]


INFIX = {function: sign for function, sign in SIGNS.items() if sign.kind == "infix"}


@pytest.mark.parametrize(
    "function", [one for one in INFIX if one is not operator.matmul], ids=lambda one: one.__name__
)
def test_an_operator_computes_what_its_function_does(function: Callable[..., Any]) -> None:
    assert eval(f"13 {INFIX[function].text} 4") == function(13, 4)


def test_operators_bind_as_tightly_as_python_has_them() -> None:
    for one, other in itertools.product(INFIX.values(), repeat=2):
        if one.precedence < other.precedence:
            tree: Any = ast.parse(f"a {one.text} b {other.text} c", mode="eval").body
            second = tree.comparators[0] if isinstance(tree, ast.Compare) else tree.right
            assert isinstance(second, ast.BinOp), (one.text, other.text)


def test_the_opposite_of_a_comparison_holds_where_that_does_not() -> None:
    compared = {function: sign.opposite for function, sign in SIGNS.items() if sign.opposite}
    assert len(compared) == 6
    for (function, opposite), left in itertools.product(compared.items(), (1, 2, 3)):
        assert function(left, 2) is not opposite(left, 2)


@pytest.mark.parametrize("text", ["+=", "-=", "*=", "/="])
def test_an_operator_in_place_changes_its_first_operand(text: str) -> None:
    (function,) = (one for one, sign in SIGNS.items() if sign.text == text)
    assert SIGNS[function].kind == "in place"
    tensor = torch.ones(2)
    assert function(tensor, 2) is tensor
