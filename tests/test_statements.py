"""The text of statements."""

from __future__ import annotations

from collections.abc import Callable

from prunecore.source import LINE, Name
from prunecore.statements import Statement, write_statement


def test_a_path_that_does_not_fit_beside_its_target_stands_below(
    check_style: Callable[..., None],
) -> None:
    target = "first.layers[0].layers[1][2] = "
    texts = [
        write_statement(Statement(target, Name(f"second[1].a[2].{'a' * length}[0]")), 0)
        for length in range(LINE - len(target) - 20, LINE - len(target) - 16)
    ]
    assert sorted(text.count("\n") for text in texts) == [0, 0, 0, 2]
    check_style(["from z import first, second\n\n" + "".join(f"{text}\n" for text in texts)])
