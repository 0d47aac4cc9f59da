"""Values, names, paths and other errors as messages show them: on one line, never very long."""

from __future__ import annotations

from typing import Any

import pytest

from prunecore.errors import a_kind, one_line, reason_of, told, unknown_name
from prunecore.escaping import shown, shown_value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        ("a'b", '"a\'b"'),
        ([1, "x", None], "[1, 'x', None]"),
        ({"a": {"b": [1]}}, "{'a': {'b': [1]}}"),
        ("a\nb\x1b[31m\u202e\ud800", "'a\\nb\\x1b[31m\\u202e\\ud800'"),
        (list(range(99)), "[0, 1, 2, 3, ...]"),
    ],
)
def test_a_value_is_shown_as_python_writes_it(value: object, text: str) -> None:
    assert shown_value(value) == text


def test_a_number_of_thousands_of_digits_is_not_written() -> None:
    assert shown_value(10**5000) == "a number of 5000 digits"
    assert shown_value([-(10**5000)]) == "[a number of 5000 digits]"


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value] * 10
    return value


@pytest.mark.parametrize(
    "value", ["a" * 10**6, nested(100), {"k" * 10**5: "v" * 10**5}, [b"x" * 999]]
)
def test_a_large_value_is_shortened_without_being_written_whole(value: object) -> None:
    assert len(shown_value(value)) <= 80
    assert "..." in shown_value(value)


def test_names_and_paths_are_shortened_in_their_middle() -> None:
    assert shown("layer1.0\n") == "layer1.0\\n"
    assert shown("a/b\x07.py") == "a/b\\x07.py"
    assert shown("x" * 200) == "x" * 200
    long = shown("start/" + "x" * 5000 + "/end.py")
    assert long.startswith("start/xx")
    assert long.endswith("xx/end.py")
    assert len(long) <= 200


def test_what_another_program_says_is_put_on_one_line() -> None:
    assert one_line("\n a\tb\n\n c\x1b ") == "a b c\\x1b"
    assert len(one_line("word " * 10**5)) <= 400


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError


def test_what_was_raised_is_told_even_where_it_cannot_say_it() -> None:
    assert told(ValueError("two\nlines")) == "ValueError: two lines"
    assert told(ValueError()) == "ValueError: no message"
    assert told(Mute()) == "Mute: no message"
    assert reason_of(Mute()) == ""


def test_an_unknown_name_and_those_that_are_known_are_shortened() -> None:
    known = ["layer\n", "n" * 999, *map(str, range(20))]
    text = str(unknown_name("module", "layer" * 10**5, known))
    assert len(text) < 600
    assert text.count("\n") == 1
    assert "layer\\n" not in text.splitlines()[0]
    assert "Did you mean 'layer\\n'?" in str(unknown_name("module", "layer", known))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        *(("int", "an int"), ("dict", "a dict"), ("ndarray", "an ndarray"), ("Net", "a Net")),
        *(("LSTM", "an LSTM"), ("UNet", "a UNet"), ("Unfold", "an Unfold"), ("R2", "an R2")),
    ],
)
def test_a_kind_has_the_article_that_is_said(name: str, told: str) -> None:
    assert a_kind(type(name, (), {})()) == told
