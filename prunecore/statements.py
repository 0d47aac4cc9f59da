"""Statements of a written method, and their text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from prunecore.source import INDENT, LINE, Value, holds_table, one_line, render


@dataclass(frozen=True)
class Statement:
    """One line of a method: `target = value`, `return value`, or a value alone.

    Attributes:
        target: what stands before the value, with its space: `x = `, `return `, or nothing.
        value: the expression.
    """

    target: str
    value: Value


@dataclass(frozen=True)
class Compound:
    """Statements under a head: a loop or a branch.

    Attributes:
        head: without its colon: `for layer in self.layers`.
        body: what stands under it.
    """

    head: str
    body: tuple[Statement | Compound, ...]


AnyStatement: TypeAlias = Statement | Compound


def write_statement(statement: AnyStatement, indent: int) -> str:
    """A statement as its line or lines."""
    if isinstance(statement, Compound):
        body = write_statements(statement.body, indent + INDENT)
        return f"{' ' * indent}{statement.head}:\n{body}"
    text = render(statement.value, indent, len(statement.target))
    line = f"{' ' * indent}{statement.target}{text}"
    return f"{line}  # fmt: skip" if holds_table(statement.value) else line


def write_statements(statements: Sequence[AnyStatement], indent: int) -> str:
    """Statements below each other."""
    return "\n".join(write_statement(statement, indent) for statement in statements)


def fits(value: Value, indent: int, before: int, spread: bool = False) -> bool:
    """Whether an expression stands on one line, after what may come before it.

    Args:
        value: the expression.
        indent: columns that its statement is indented by.
        before: columns of `return ` or of what assigns it.
        spread: whether each item of a dictionary may stand on a line of its own.
    """
    if spread and isinstance(value, dict):
        return all(fits({key: item}, indent + INDENT, before) for key, item in value.items())
    return indent + before + len(one_line(value)) <= LINE


def with_values(statement: AnyStatement, change: Callable[[Value], Value]) -> AnyStatement:
    """A statement with other values in the places of its own."""
    if isinstance(statement, Compound):
        body = tuple(with_values(inner, change) for inner in statement.body)
        return Compound(statement.head, body)
    return Statement(statement.target, change(statement.value))


def values_of(statement: AnyStatement) -> list[Value]:
    """The values of a statement and of those under it, in order."""
    if isinstance(statement, Compound):
        return [value for inner in statement.body for value in values_of(inner)]
    return [statement.value]
