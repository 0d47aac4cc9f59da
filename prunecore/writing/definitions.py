"""Checks of the definitions and imports that plugins give the file."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from prunecore.registry import Plugin
from prunecore.writing.text import RESERVED


def defined_names(name: str, text: str, plugin: Plugin, what: str) -> set[str]:
    """The names that a definition gives the file, its own among them.

    Args:
        name: that it is given under.
        text: the class or function, and what it needs.
        plugin: who gives it.
        what: the hook and for which block, for messages.

    Raises:
        PluginError: it does not compile, does not define the name, or hides one of the file's own.
    """
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError) as error:  # a null character is no SyntaxError
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise plugin.error(
            f"{what} defines {name} in text that does not compile: {reason}{where}"
        ) from error
    names = {one for statement in body for one in _names(statement)}
    if name not in names:
        others = ", ".join(sorted(names)) or "nothing"
        raise plugin.error(f"{what} gives text for {name} that defines {others} instead")
    for taken in sorted(names & RESERVED):
        raise plugin.error(f"{what} defines {taken}, which is a name of the file's own")
    return names


def check_imports(lines: Iterable[str], plugin: Plugin, what: str) -> None:
    """Check that lines are import statements.

    Args:
        lines: one statement each.
        plugin: who gives them.
        what: the hook and for which block, for messages.

    Raises:
        PluginError: one is something else.
    """
    for line in lines:
        try:
            (statement,) = ast.parse(line).body
        except (SyntaxError, ValueError) as error:
            raise plugin.error(f"{what} gives {line!r}, which is not one import") from error
        if not isinstance(statement, ast.Import | ast.ImportFrom):
            raise plugin.error(f"{what} gives {line!r}, which is not one import")


def _names(statement: ast.stmt) -> list[str]:
    """The names that a statement defines."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        return [target.id for target in statement.targets if isinstance(target, ast.Name)]
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return [statement.target.id]
    return []
