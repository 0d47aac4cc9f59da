"""Texts as Python, TOML and lines for people: each stands for itself, whatever is in it."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from prunecore.errors import PrunecoreError, UnsupportedError, unknown_name
from prunecore.escaping import (
    LONGEST,
    in_docstring,
    in_toml,
    is_name,
    is_number,
    nearest_name,
    quoted,
    shown,
    visible,
)

ANYTHING = st.text(st.characters() | st.sampled_from("\"'\\\n\r\t\0{}\u202e\ud800"))
WHOLE = st.text()  # without halves of letters, which no file holds


@given(ANYTHING)
@example('"""')
@example("'\"")
@example("\\")
def test_a_quoted_text_evaluates_to_itself_and_can_be_seen(text: str) -> None:
    literal = quoted(text)
    assert ast.literal_eval(literal) == text
    assert literal.isprintable()


@pytest.mark.parametrize(
    ("text", "literal"),
    [("a", '"a"'), ("it's", '"it\'s"'), ('a"b', "'a\"b'"), ("\"'", '"\\"\'"'), ("🔥é", '"🔥é"')],
)
def test_the_quotes_are_those_that_ruff_takes(text: str, literal: str) -> None:
    assert quoted(text) == literal


@given(ANYTHING)
@example('"""; 1 / 0; """')
@example("\\")
def test_a_docstring_ends_where_its_text_does(text: str) -> None:
    source = f'"""{in_docstring(text)}\n"""\n'
    tree = ast.parse(source)
    assert len(tree.body) == 1
    assert ast.literal_eval(source.strip()) == f"{text}\n"


@given(WHOLE)
@example('"\\\n\x7f\U000e0001')
def test_a_text_in_toml_is_read_as_itself(text: str) -> None:
    tomllib = pytest.importorskip("tomllib")
    assert tomllib.loads(f"key = {in_toml(text)}") == {"key": text}


@given(ANYTHING)
@example("\ufb01")
@example("\u017felf")
@example("__private")
@example("__class__")
@example("None")
@example("match")
def test_a_name_is_the_attribute_that_it_says(text: str) -> None:
    if is_name(text):
        assert _assigned(text) == [text]
    assert is_name(nearest_name(text, "Net"))


def _assigned(name: str) -> list[str]:
    """The attributes that a class's method assigns by this name."""

    class Holder:
        def __setattr__(self, name: str, _: object) -> None:
            found.append(name)

    found: list[str] = []
    made: dict[str, Any] = {"Holder": Holder}
    exec(f"class Net(Holder):\n    def __init__(self):\n        self.{name} = 1\n", made)
    made["Net"]()
    return found


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Net", "Net"),
        ("my net", "my_net"),
        ("_net", "_net"),
        ("\ufb01", "fi"),
        ("__private", "private"),
        ("__class__", "Net_class"),
        ("1st", "Net_1st"),
        ("if", "Net_if"),
        ("", "Net"),
        ("☃", "Net"),
    ],
)
def test_the_nearest_name(text: str, name: str) -> None:
    assert nearest_name(text, "Net") == name


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("0", True),
        ("12", True),
        ("01", False),
        ("-1", False),
        ("٣", False),
        ("²", False),
        ("10000", False),
    ],
)
def test_a_number_is_what_python_counts_by(text: str, is_one: bool) -> None:
    assert is_number(text) is is_one
    assert not is_number("9" * 5000)


@given(ANYTHING)
def test_what_is_shown_is_one_line_of_what_can_be_seen(text: str) -> None:
    assert shown(text).isprintable()
    assert visible(text).isprintable()
    assert len(shown(text * 100)) <= 10 * LONGEST + 30


def test_the_middle_of_what_is_shown_is_left_out_where_it_is_long() -> None:
    text = shown("a" * 10_000 + "b")
    assert len(text) <= LONGEST
    assert re.fullmatch(r"a+\.\.\.a+b", text)


@given(ANYTHING, ANYTHING)
def test_an_error_is_two_lines_at_most(name: str, other: str) -> None:
    errors: list[PrunecoreError] = [
        PrunecoreError(f"{name} is wrong.\nGive {other}."),
        UnsupportedError(name, other, f"it has {name}", "Correct it."),
        unknown_name("module", name, [other, name]),
    ]
    for error in errors:
        text = str(error)
        assert text.count("\n") <= 1
        assert text.replace("\n", "").isprintable()
        assert len(text) < 20_000


def test_the_middle_of_a_long_line_of_an_error_is_left_out() -> None:
    text = str(PrunecoreError(f"{'a' * 5000} is wrong.\nCorrect it."))
    assert text.endswith("aaa is wrong.\nCorrect it.")
    assert " ... " in text
    assert len(text) < 1100
