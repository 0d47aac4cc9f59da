"""YAML without surprises: what is read, and what is refused before it grows."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from prunecore.errors import UsageError
from prunecore.files.plain_yaml import DEEPEST, DIGITS, LONGEST, MOST, read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# nothing", None),
        ("~", None),
        ("[null, Null, '']", [None, None, ""]),
        ("[true, False, TRUE]", [True, False, True]),
        ("[0, -0, +3, 12, 0x1F, 0o17]", [0, 0, 3, 12, 31, 15]),
        ("[1.5, .5, 1., 1e3, -2E-2]", [1.5, 0.5, 1.0, 1000.0, -0.02]),
        ("[.inf, -.INF]", [math.inf, -math.inf]),
        ("a: |-\n 3\nb: \"\\x41\"\nc: '1'", {"a": "3", "b": "A", "c": "1"}),
        ("!!str 3", "3"),
        ("! 3", "3"),
        ("!!int 3", 3),
        ("!!float 3", 3.0),
        ("!!bool true", True),
        ("!!seq [!!null ~]", [None]),
        ("a: &x [1, 2]\nb: *x", {"a": [1, 2], "b": [1, 2]}),
        ("? a\n: b\n? c", {"a": "b", "c": None}),
        ("{1: a, x: b}", {1: "a", "x": "b"}),
    ],
)
def test_plain_values(text: str, value: Any) -> None:
    assert read(text) == value
    assert repr(read(text)) == repr(value)  # 1 is not True


@pytest.mark.parametrize(
    "text",
    [
        "190:20:30", "1:2", "-1:59.5", "2001-01-01", "2001-12-14t21:59:43Z", "yes", "No", "on", "y",
        "010", "08", "1_000", "0b11", "1,000", "0x", "1e", "infinity", "nan", "=", "\uff11",
        "\u0661",
    ],
)  # fmt: skip
def test_what_yaml_1_1_takes_for_something_else_is_text(text: str) -> None:
    assert read(text) == text
    assert read(f"{{a: {text}}}" if "," not in text else f"a: {text}") == {"a": text}


def test_a_merge_is_a_key_like_others() -> None:
    assert read("{<<: {a: 1}}") == {"<<": {"a": 1}}


def bomb(opening: str, item: str, closing: str) -> str:
    """Nine lists or mappings of nine, each nine times the one before."""
    rows = [f"&a0 {opening}{item.format('x', 0)}{closing}"]
    for number in range(9):
        inner = ", ".join(item.format(f"*a{number}", key) for key in range(9))
        rows.append(f"&a{number + 1} {opening}{inner}{closing}")
    return f"[{', '.join(rows)}]"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("!!int ''", r"the tag .*int' is not read, or not for ''"),
        ("!!int 1.5", "not for '1.5'"),
        ("!!bool 1", "not for '1'"),
        ("!!timestamp x", "not for 'x'"),
        ("!!timestamp 2001-01-01", "timestamp' is not read"),
        ("!!binary aa", "binary' is not read"),
        ("!!set {a}", "set' is not read"),
        ("!!map [a]", "map' is not read"),
        ("!x [a]", "the tag '!x' is not read"),
        ("!!python/object/apply:os.getcwd []", "is not read"),
        ("{a: 1, b: 2, a: 3}", "the key 'a' is there twice"),
        ("{1: 1, 1: 2}", "the key 1 is there twice"),
        ("{[a]: 1}", "a list or mapping cannot be a key"),
        ("{? {a: 1} : 2}", "a list or mapping cannot be a key"),
        ("*a", "no value before it has the anchor 'a'"),
        ("&a [*a]", "no value before it has the anchor 'a'"),
        ("--- a\n--- b", "a second document begins in line 2"),
        ("9" * (DIGITS + 1), f"a number has more than {DIGITS} digits"),
        ("0." + "9" * 99_999, "a number has more than"),
        ("1e400", "the number '1e400' is too large"),
        ("[" * (DEEPEST + 1), f"more than {DEEPEST} lists and mappings lie within each other"),
        ("[" * 99_999, "lie within each other"),
        ("- " * 99_999, "lie within each other"),
        ("{a: " * 9_999, "lie within each other"),
        (f"[{'a, ' * MOST}]", "it holds more than 10,000 values"),
        (bomb("[", "{}", "]"), "it holds more than 10,000 values, what aliases repeat counted"),
        (bomb("{", "k{1}: {0}", "}"), "it holds more than 10,000 values"),
        ("a: b: c", "mapping values are not allowed here in line 1"),
        ("a: 1\n- b", "in line 2"),
        ("\0", "unacceptable character"),
        ("\ud800", "unacceptable character"),
        ('"\\U00110000"', "an escape or a version in it is out of range"),
        ('"\\UFFFFFFFF"', "an escape or a version in it is out of range"),
        (f"%YAML 1.{'9' * 5000}\n--- a", "an escape or a version in it is out of range"),
    ],
)
def test_what_is_refused(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        read(text)
    assert len(str(caught.value)) < 300


def test_a_text_that_would_take_long_is_not_begun() -> None:
    with pytest.raises(UsageError, match="longer than the 200,000 characters"):
        read(" " * (LONGEST + 1))


def test_an_alias_counts_as_much_as_what_it_repeats() -> None:
    half = f"&a [{'x, ' * (MOST // 2 - 10)}]"
    assert len(read(f"[{half}, 1]")) == 2
    assert len(read(f"[{half}, *a]")) == 2
    with pytest.raises(UsageError, match="more than 10,000"):
        read(f"[{half}, *a, *a]")


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


class Quoting(yaml.SafeDumper):
    """Writes all text in quotes: some that YAML 1.2 takes for a number is plain text in 1.1."""


Quoting.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)


@given(VALUES, st.booleans())
def test_what_yaml_writes_is_read(value: Any, flow: bool) -> None:
    assert read(yaml.dump(value, Dumper=Quoting, default_flow_style=flow)) == value
