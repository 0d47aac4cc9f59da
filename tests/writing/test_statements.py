"""Statements as text, and the line that a method begins with."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from prunecore.writing.statements import signature
from prunecore.writing.text import LINE


@pytest.mark.parametrize("length", [10, 60, 61, 62, 63, 64, 120])
def test_a_signature_is_broken_where_it_is_too_long(
    length: int, check_style: Callable[..., None]
) -> None:
    text = signature("f", ["self", f"{'x' * length}: int = 3"], "None", 4)
    check_style([f"class A:\n{text}\n        pass\n"])
    scope: dict[str, Any] = {}
    exec(f"class A:\n{text} pass", scope)
    assert list(inspect.signature(scope["A"].f).parameters) == ["self", "x" * length]
    longest = max(map(len, text.splitlines()))
    assert longest <= LINE or length == 120
