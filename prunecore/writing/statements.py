"""Statements of a method as text: lines, loops and branches, and the line that it begins with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from prunecore.writing.text import INDENT, LINE, Value, holds_table, render


def signature(name: str, parameters: Sequence[str], returns: str, indent: int = 0) -> str:
    """A `def` line, over several lines where one is too short."""
    line = f"{' ' * indent}def {name}({', '.join(parameters)}) -> {returns}:"
    if len(line) <= LINE:
        return line
    inner = " " * (indent + INDENT)
    rows = f"{inner}{', '.join(parameters)}\n"
    if len(rows) - 1 > LINE:
        rows = "".join(f"{inner}{parameter},\n" for parameter in parameters)
    return f"{' ' * indent}def {name}(\n{rows}{' ' * indent}) -> {returns}:"


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
    is_several = isinstance(statement.value, tuple) and len(statement.value) > 1
    if statement.target == "return " and is_several and "\n" not in text:
        text = text[1:-1]
    line = f"{' ' * indent}{statement.target}{text}"
    return f"{line}  # fmt: skip" if holds_table(statement.value) else line


def write_statements(statements: Sequence[AnyStatement], indent: int) -> str:
    """Statements below each other."""
    return "\n".join(write_statement(statement, indent) for statement in statements)


def with_values(statement: AnyStatement, change: Callable[[Value], Value]) -> AnyStatement:
    """A statement with other values in the places of its own."""
    if isinstance(statement, Compound):
        body = tuple(with_values(inner, change) for inner in statement.body)
        return Compound(statement.head, body)
    value = change(statement.value)
    return statement if value is statement.value else Statement(statement.target, value)


def values_of(statement: AnyStatement) -> list[Value]:
    """The values of a statement and of those under it, in order."""
    if isinstance(statement, Compound):
        return [value for inner in statement.body for value in values_of(inner)]
    return [statement.value]
