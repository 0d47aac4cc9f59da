"""Constructor arguments: which values are one, how they are named, and in what order they stand."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import nn

from prunecore.channels.keep import Width
from prunecore.writing.arguments import Argument, Arguments, alike, equal, kind_of_layer
from prunecore.writing.text import REQUIRED, Call, Name, free_name, one_line


def widths(channels: Any, *values: int) -> list[Width]:
    return [Width(value, f"{channels}{number}") for number, value in enumerate(values)]


@pytest.fixture
def arguments() -> Arguments:
    """Of a class with two instances."""
    return Arguments(("in0", "in1"), ("out0", "out1"))


def names(arguments: Arguments) -> list[str]:
    arguments.name_all()
    return [argument.name for argument in arguments]


def test_none_may_be_given_where_it_is_the_default() -> None:
    argument = Argument([3, 4], ("attend", "out_width"), None, name="out_width")
    assert argument.parameter == "out_width: int | None = None"


def test_widths_of_the_same_channels_are_one_argument(arguments: Arguments) -> None:
    for role in (("a", "out_features"), ("b", "in_features")):
        arguments.lift(widths("mid", 3, 4), role, False, REQUIRED)
    assert names(arguments) == ["width"]


def test_equal_widths_of_other_channels_are_two(arguments: Arguments) -> None:
    arguments.lift(widths("mid", 3, 4), ("a", "out_features"), False, REQUIRED)
    arguments.lift(widths("other", 3, 4), ("b", "out_features"), False, REQUIRED)
    assert names(arguments) == ["a_width", "b_width"]


def test_other_values_are_one_where_they_mean_the_same_and_are_always_equal(
    arguments: Arguments,
) -> None:
    for attribute in ("conv1", "conv2"):
        arguments.lift([1, 2], (attribute, "stride"), False, 1)
        arguments.lift([1, 2], (attribute, "padding"), False, 0)
    arguments.lift([2, 1], ("conv3", "stride"), False, 1)
    assert names(arguments) == ["stride", "padding", "conv3_stride"]


def test_the_ends_come_first_and_last_then_what_counts_nothing_then_defaults(
    arguments: Arguments,
) -> None:
    arguments.lift([0.1, 0.2], ("drop", "p"), False, 0.5)
    arguments.lift([4, 5], ("conv", "kernel_size"), False, REQUIRED)
    arguments.lift(widths("out", 3, 4), ("b", "out_features"), False, REQUIRED)
    arguments.lift(widths("mid", 5, 6), ("a", "out_features"), False, REQUIRED)
    arguments.lift(widths("in", 7, 8), ("a", "in_features"), False, REQUIRED)
    assert names(arguments) == ["in_channels", "width", "out_channels", "kernel_size", "p"]
    assert [argument.parameter for argument in arguments] == [
        "in_channels: int",
        "width: int",
        "out_channels: int",
        "kernel_size: int",
        "p: float = 0.5",
    ]
    calls = ["Block(7, 5, 3, 4, p=0.1)", "Block(8, 6, 4, 5, p=0.2)"]
    assert list(map(str, arguments.calls("Block", 2))) == calls
    signature = ", ".join(argument.parameter for argument in arguments)
    exec(f"def block({signature}): pass")  # nothing without a default after one with it


def test_a_value_that_is_the_default_is_not_given(arguments: Arguments) -> None:
    arguments.lift([1, 2], ("conv", "stride"), False, 1)
    arguments.name_all()
    assert list(map(str, arguments.calls("Block", 2))) == ["Block()", "Block(stride=2)"]


def test_one_argument_for_both_ends_is_called_channels() -> None:
    arguments = Arguments(("x0", "x1"), ("x0", "x1"))
    arguments.lift(widths("x", 3, 4), ("a", "in_features"), False, REQUIRED)
    assert names(arguments) == ["channels"]


def test_a_name_that_is_fixed_beforehand() -> None:
    arguments = Arguments(("in0",), ("out0",), {"out0": "num_classes"})
    arguments.lift(widths("out", 10), ("fc", "out_features"), False, Width(10, "out0"))
    assert names(arguments) == ["num_classes"]
    (argument,) = arguments
    assert argument.parameter == "num_classes: int = 10"
    assert list(map(str, arguments.calls("Net", 1))) == ["Net()"]


def test_a_value_of_the_forward_is_read_from_an_attribute(arguments: Arguments) -> None:
    first = arguments.lift(widths("mid", 3, 4), ("a", "out_features"), False, REQUIRED)
    stored = arguments.lift(widths("mid", 3, 4), ("forward", "view"), True, REQUIRED)
    arguments.name_all()
    (argument,) = arguments
    assert argument.stored
    assert [one_line(first), one_line(stored)] == ["", "self."]  # names are given afterwards
    again = arguments.lift(widths("mid", 3, 4), ("forward", "view"), True, REQUIRED)
    assert one_line(again) == "self.width"


@pytest.mark.parametrize(
    ("values", "parameter"),
    [
        ([1, 2], "x: int"),
        ([1, 2.5], "x: float | int"),
        ([True, False], "x: bool"),
        (["a", "b"], "x: str"),
        ([(1, 2), (3, 4)], "x: tuple[int, ...]"),
        ([1, (3, 4)], "x: int | tuple[int, ...]"),
        ([None, 3], "x: int | None"),
        ([Call("nn.ReLU"), Call("nn.GELU")], "x: nn.Module"),
        ([Call("nn.ReLU"), None], "x: nn.Module | None"),
        ([Width(3, "a"), Width(4, "b")], "x: int"),
        ([Name("nn.ReLU"), None], "x: type[nn.Module] | None"),
        ([Name('float("inf")'), 2.0], "x: float"),
        ([Name("torch.float32"), Name("torch.float64")], "x: torch.dtype"),
        ([torch.float32, torch.float64], "x: torch.dtype"),
        ([Name("math.pi"), 2.0], "x: float"),
        ([Name("torch.relu"), Name("my_own")], "x: Any"),
        ([[1, None], [2]], "x: list[None | int] | list[int]"),
    ],
)
def test_an_argument_says_its_kind(values: list[Any], parameter: str) -> None:
    argument = Argument(values, ("x", ""), REQUIRED, name="x")
    assert argument.parameter == parameter
    exec(f"def f({parameter}): ...", {"torch": torch, "nn": nn, "Any": Any})


@pytest.mark.parametrize(
    ("role", "name"),
    [
        (("conv", "kernel_size"), "kernel_size"),
        (("conv", "0"), "conv"),
        (("conv", ""), "conv"),
        (("0", ""), "arg_0"),
        (("class", ""), "arg_class"),
        (("a.b", ""), "a_b"),
        (("self", ""), "self2"),
    ],
)
def test_an_argument_is_named_by_where_it_stands(
    arguments: Arguments, role: tuple[str, str], name: str
) -> None:
    arguments.lift([1, 2], role, False, REQUIRED)
    assert names(arguments) == [name]
    inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY)


def test_clashing_names_are_told_apart(arguments: Arguments) -> None:
    arguments.lift([1, 2], ("conv1", "stride"), False, 1)
    arguments.lift([2, 1], ("conv2", "stride"), False, 1)
    arguments.lift([2, 2], ("conv2_stride", ""), False, REQUIRED)
    assert sorted(names(arguments)) == ["conv2_stride", "conv2_stride2", "stride"]


def test_widths_of_one_name_are_numbered_from_one(arguments: Arguments) -> None:
    for channels in ("first", "second"):
        arguments.lift(widths(channels, 3, 4), ("a", "out_features"), False, REQUIRED)
    assert names(arguments) == ["a_width1", "a_width2"]


@pytest.mark.parametrize(
    ("roles", "name"),
    [
        ([("conv", "groups")], "groups"),
        ([("conv", "groups"), ("norm", "num_features")], "conv_width"),
        ([("f", "a_width"), ("g", "in_channels")], "a_width"),
        ([("view", "1")], "view_width"),
    ],
)
def test_a_width_that_stands_alone_is_named_by_what_it_counts_there(
    arguments: Arguments, roles: list[tuple[str, str]], name: str
) -> None:
    arguments.lift(widths("other", 5, 6), ("x", "out_features"), False, REQUIRED)
    arguments.lift(widths("another", 5, 6), ("y", "out_features"), False, REQUIRED)
    for role in roles:
        arguments.lift(widths("mid", 3, 4), role, False, REQUIRED)
    assert names(arguments)[-1] == name


def test_what_is_given_by_place_comes_before_what_is_given_by_name(arguments: Arguments) -> None:
    arguments.lift([Call("nn.ReLU"), Call("nn.GELU")], ("act", ""), False, REQUIRED)
    arguments.lift([3, 5], ("conv", "kernel_size"), False, REQUIRED)
    assert names(arguments) == ["kernel_size", "act"]
    assert str(arguments.calls("Block", 2)[1]) == "Block(5, act=nn.GELU())"


@pytest.mark.parametrize(
    ("calls", "kind"),
    [
        (["nn.ReLU", "nn.GELU"], "activation"),
        (["nn.MaxPool2d", "nn.AvgPool2d"], "pooling"),
        (["nn.ReLU", "nn.MaxPool2d"], "layer"),
        (["Mine", "nn.ReLU"], "layer"),
        (["Mine"], "layer"),
    ],
)
def test_layers_are_called_after_what_they_have_in_common(calls: list[str], kind: str) -> None:
    assert kind_of_layer([*map(Call, calls), None]) == kind


def test_a_name_is_numbered_until_it_is_free() -> None:
    assert free_name("a", set()) == "a"
    assert free_name("a", {"a", "a2", "a4"}) == "a3"
    assert free_name("a1", {"a1"}, "a") == "a2"


@pytest.mark.parametrize(
    ("second", "is_alike"),
    [
        (Call("f", (2,), {"a": 4}), True),
        (Call("g", (1,), {"a": 3}), False),
        (Call("f", (1, 2), {"a": 3}), False),
        (Call("f", (1,), {"b": 3}), False),
        (Call("f", (1,)), False),
        (Name("f(1, a=3)"), False),
        (None, False),
    ],
)
def test_calls_are_alike_if_only_values_differ(second: Any, is_alike: bool) -> None:
    first = Call("f", (1,), {"a": 3})
    assert alike([first, first, second]) is is_alike


def test_values_are_equal_if_all_are_written_alike() -> None:
    assert equal([1, 1, Width(1, "x")])
    assert not equal([1, 1, True])
    assert equal([None])
