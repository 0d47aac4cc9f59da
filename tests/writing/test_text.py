"""Values and calls as text: defaults dropped, lines broken as ruff breaks them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from prunecore.channels.keep import Width
from prunecore.channels.names import is_of_torch
from prunecore.writing.statements import Statement, write_statements
from prunecore.writing.text import LINE, Call, Name, one_line, render, same


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (Width(3, "x"), "3"),
        (True, "True"),
        (None, "None"),
        (0.5, "0.5"),
        (1.0, "1.0"),
        (-1e-5, "-1e-05"),
        (1e-12, "1e-12"),
        (math.inf, 'float("inf")'),
        (-math.inf, 'float("-inf")'),
        (math.nan, 'float("nan")'),
        ("a", '"a"'),
        ('say "hi"\\\n', "'say \"hi\"\\\\\\n'"),
        ((), "()"),
        ((1,), "(1,)"),
        ((1, 2), "(1, 2)"),
        ([1, [2]], "[1, [2]]"),
        ({"a": 1, "b": (2,)}, '{"a": 1, "b": (2,)}'),
        (Name("self.x"), "self.x"),
        (Call("nn.ReLU"), "nn.ReLU()"),
        (Call("f", (1,), {"a": 2}), "f(1, a=2)"),
        (Call("f", (), {"a": 2, "b": 3}, {"a": 2}), "f(b=3)"),
        (Call("f", (Call("g", (1,)), [Name("x")])), "f(g(1), [x])"),
    ],
)
def test_a_value_on_one_line(value: Any, text: str) -> None:
    assert one_line(value) == text
    assert str(value) == text or not isinstance(value, Call)


_literals = st.recursive(
    st.one_of(
        st.integers(),
        st.booleans(),
        st.none(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters() | st.sampled_from("\n\r\0'\"\\{")),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner),
        st.tuples(inner, inner),
        st.dictionaries(st.text(st.characters()), inner, max_size=3),
    ),
    max_leaves=25,
)


@given(_literals, st.integers(0, 40), st.integers(0, 40))
def test_the_text_of_a_literal_evaluates_to_it(value: Any, indent: int, taken: int) -> None:
    assert eval(one_line(value)) == value
    assert eval(render(value, indent, taken)) == value


@given(_literals, st.integers(0, 40), st.integers(0, 40))
def test_a_value_is_broken_only_where_its_line_is_too_long(
    value: Any, indent: int, taken: int
) -> None:
    text = render(value, indent, taken)
    if indent + taken + len(one_line(value)) <= LINE:
        assert text == one_line(value)
    else:
        has_parts = isinstance(value, list | tuple | dict | str) and len(value)
        assert ("\n" in text) is bool(has_parts)


@pytest.mark.parametrize("value", [("a" * 30,), ["a " * 50], {"key": "a" * 99}, ("", "a" * 80)])
def test_a_text_over_several_lines_stays_where_it_is(value: Any) -> None:
    assert eval(render(value, 20, 40)) == value


def test_a_call_over_several_lines_has_one_argument_a_line() -> None:
    value = Call("nn.Sequential", tuple(Call("nn.Linear", (1000 + i, 2000)) for i in range(4)))
    assert render(value, 8, len("self.body = ")) == (
        "nn.Sequential(\n"
        "            nn.Linear(1000, 2000),\n"
        "            nn.Linear(1001, 2000),\n"
        "            nn.Linear(1002, 2000),\n"
        "            nn.Linear(1003, 2000),\n"
        "        )"
    )


def test_a_long_list_of_numbers_fills_rows_that_a_formatter_leaves_alone(
    check_style: Callable[..., None],
) -> None:
    table = list(range(100, 160))
    statements = [
        Statement("x = ", table),
        Statement("y = ", Call("f", (1, Call("g", (), {"order": table})))),
        Statement("z = ", table[:16]),
    ]
    text = write_statements(statements, 0)
    assert text.count("# fmt: skip") == 2
    assert len(text.splitlines()) < 22
    check_style([f"from z import f, g\n\n{text}\n"])
    scope = {"f": lambda _, inner: inner, "g": lambda order: order}
    exec(text, scope)
    assert scope["x"] == scope["y"] == table


def test_a_long_string_is_written_in_parts(check_style: Callable[..., None]) -> None:
    digits = "01" * 60
    statements = [
        Statement("x = ", digits),
        Statement("y = ", Call("f", (digits,))),
        Statement("z = ", Call("f", (1,), {"parts": digits, "other": 2})),
    ]
    text = write_statements(statements, 0)
    assert max(map(len, text.splitlines())) <= LINE
    check_style([f"from z import f\n\n{text}\n"])
    scope: dict[str, Any] = {"f": lambda *_, parts=digits, other=0: parts}
    exec(text, scope)
    assert scope["x"] == scope["y"] == scope["z"] == digits


@pytest.mark.parametrize("spare", [0, 1])
def test_a_line_of_88_columns_is_not_broken(spare: int) -> None:
    name = "x" * (LINE - 8 - 4 - len("f(aaaaa)") + 5 + spare)
    text = render(Call("f", (Name(name),)), 8, 4)
    assert ("\n" in text) is bool(spare)


def test_broken_texts_are_as_ruff_formats_them(check_style: Callable[..., None]) -> None:
    conv = Call("nn.Conv2d", (64, 128, (3, 3)), {"stride": 2, "padding": 1, "bias": False})
    values = [
        Call("f", (conv,) * count, {f"keyword{i}": 10**i for i in range(keywords)})
        for count in range(4)
        for keywords in (0, 1, 9)
    ]
    values += [list(range(10**5, 10**5 + length)) for length in (1, 9, 10, 16)]
    values += [{"a" * length: conv} for length in (10, 40, 60, 80)]
    values += [(1,), (conv, [conv, {"x": (conv,)}]), Call("f", ([conv, conv],)), [[], (), {}] * 20]
    values += [
        Name(f"table.of_values[{'index.' * 10}place]"),
        Name("(a + b).of[0][" + "place.of." * 7 + "end" + "]"),
    ]
    values += [
        Call(f"{receiver}.reshape", (Name("B"), -1, Name("self." + "width" * length)))
        for receiver in (
            "self.q(x)",
            "self.q(x).permute(0, 2)",
            "(a @ b).T",
            "(a @ b).view(1, 2)[0].t()",
        )
        for length in (3, 6, 12)
    ]
    lines = [
        f"{name} = {render(value, 0, len(name) + 3)}\n"
        for value in values
        for name in ("x", "name_of_middling_length")
    ]
    check_style(
        ["import nn\nfrom z import B, a, b, f, index, place, self, table\n\n" + "".join(lines)]
    )


def test_arguments_without_a_default_stand_by_place_and_others_by_name() -> None:
    made = Call.of(nn.Conv2d, kernel_size=3, in_channels=4, out_channels=8, stride=1, bias=False)
    assert str(made) == "nn.Conv2d(4, 8, 3, bias=False)"
    assert made.names == ("in_channels", "out_channels", "kernel_size")
    assert str(Call.of(nn.ReLU, inplace=False)) == "nn.ReLU()"
    assert str(Call.of(nn.ReLU, inplace=True)) == "nn.ReLU(inplace=True)"
    assert str(Call.of(nn.BatchNorm2d, num_features=3, eps=1e-3)) == "nn.BatchNorm2d(3, eps=0.001)"


@pytest.mark.parametrize(
    ("momentum", "text"),
    [
        (1 - 0.9997, "nn.BatchNorm2d(3, momentum=0.0003)"),
        (1 / 3, "nn.BatchNorm2d(3, momentum=0.3333333333333333)"),
        (0.1 + 1e-17, "nn.BatchNorm2d(3)"),
        (None, "nn.BatchNorm2d(3, momentum=None)"),
    ],
)
def test_a_computed_number_is_written_without_its_rounding(momentum: Any, text: str) -> None:
    assert str(Call.of(nn.BatchNorm2d, num_features=3, momentum=momentum)) == text


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        (1, 1, True),
        (1, Width(1, "x"), True),
        (1, 2, False),
        (1, True, False),
        (0, False, False),
        (0, 0.0, False),
        (True, True, True),
        ("1", 1, False),
        ((1, 2), (1, 2), True),
        ((1, 2), [1, 2], False),
        (None, None, True),
        (None, 0, False),
        (Name("x"), Name("x"), True),
        (Call("f", (1,)), Call("f", (1,)), True),
        (Call("f", (1,)), Call("f", (2,)), False),
    ],
)
def test_values_are_the_same_if_they_are_written_alike(
    first: Any, second: Any, alike: bool
) -> None:
    assert same(first, second) is alike
    assert same(second, first) is alike


def test_only_classes_that_torch_nn_has_are_called_by_it() -> None:
    class ReLU(nn.ReLU):
        pass

    assert is_of_torch(nn.ReLU)
    assert not is_of_torch(ReLU)
    assert not is_of_torch(dict)


CONV, ACT = Call("nn.Conv2d", (13, 13, 3), {"padding": 1}), Call("nn.ReLU")


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([ACT] * 7, "[nn.ReLU(), " + "nn.ReLU(), " * 5 + "nn.ReLU()]"),
        ([ACT] * 8, "[*(nn.ReLU() for _ in range(8))]"),
        ([CONV, *[ACT] * 9], "[nn.Conv2d(13, 13, 3, padding=1), *(nn.ReLU() for _ in range(9))]"),
        (
            [Call("A"), Call("B")] * 4,
            "[*(layer for _ in range(4) for layer in (A(), B()))]",
        ),
        (
            [*[Call("A"), Call("B")] * 4, Call("A")],
            "[*(layer for _ in range(4) for layer in (A(), B())), A()]",
        ),
        ([Call("layer", (3,))] * 8, f"[{', '.join(['layer(3)'] * 8)}]"),
        ([Call("A", (Call("_"),))] * 8, f"[{', '.join(['A(_())'] * 8)}]"),
        ([1] * 8, "[1, 1, 1, 1, 1, 1, 1, 1]"),
    ],
)
def test_calls_that_repeat_are_written_once(items: list[Any], said: str) -> None:
    assert one_line(items) == said
    assert one_line(Call("f", tuple(items))) == f"f({said[1:-1]})"


def test_long_calls_that_repeat_are_broken_as_ruff_breaks_them() -> None:
    norm = Call("nn.BatchNorm2d", (13,), {"momentum": 0.25})
    text = render(Call("nn.Sequential", tuple([CONV, norm, ACT] * 5 + [CONV])), 8)
    assert text == (
        "nn.Sequential(\n"
        "            *(\n"
        "                layer\n"
        "                for _ in range(5)\n"
        "                for layer in (\n"
        "                    nn.Conv2d(13, 13, 3, padding=1),\n"
        "                    nn.BatchNorm2d(13, momentum=0.25),\n"
        "                    nn.ReLU(),\n"
        "                )\n"
        "            ),\n"
        "            nn.Conv2d(13, 13, 3, padding=1),\n"
        "        )"
    )
