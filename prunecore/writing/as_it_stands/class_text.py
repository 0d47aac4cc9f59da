"""A plugin's own classes and functions as text of a written file, with all that they need there."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from graphlib import TopologicalSorter
from symtable import SymbolTable, symtable
from types import ModuleType
from typing import Any, TypeAlias

from prunecore.writing.text import IMPORTS, RESERVED, Name, Value, render, source_of

Part: TypeAlias = type | Callable[..., Any]  # a class or a function


class Definitions:
    """The texts of a class and of all that it uses of its own distribution.

    A name that means something else in the file gets a number.

    Args:
        known: what the file defines already, text by name.
        replaced: expressions within the texts to what is written in their places.

    Attributes:
        imports: further import lines that the texts need.
    """

    def __init__(self, known: Mapping[str, str], replaced: Mapping[str, Value]) -> None:
        self.imports: set[str] = set()
        self._known = known
        self._replaced = replaced
        self._missing = set(replaced)  # what of that is in none of the texts
        self._names: dict[Part, str] = {}  # what each part is called in the file
        self._texts: dict[str, str] = {}
        self._needs: dict[str, set[str]] = {}  # of each module, those that its parts import from

    def add(self, part: Part, name: str) -> str:
        """Define a class or function, and what it needs.

        Args:
            part: stands at the top of a module.
            name: what it is called in the file, if nothing else is.

        Returns:
            What it is called.

        Raises:
            ValueError: its text is not there, or uses what a written file does not have.
        """
        text = _text(part)
        if self._replaced:
            self._missing -= _expressions(text).keys()
            text = _with(text, self._replaced)
        needs = self._needs.setdefault(part.__module__, set())
        called = {}
        for used in sorted(_names(text)[0] - {part.__name__}):
            other = _own(part, used)
            if other is None:
                self.imports |= _import_of(part, used)
                continue
            called[used] = self._names.get(other) or self.add(other, other.__name__)
            needs |= {other.__module__} - {part.__module__}
        for number in itertools.count(1):
            free = name if number == 1 else f"{name}{number}"
            own = _renamed(text, part.__name__, {**called, part.__name__: free})
            if {**self._known, **self._texts}.get(free, own) == own:
                break
        self._names[part], self._texts[free] = free, own
        return free

    def texts(self) -> dict[str, str]:
        """Each definition's text by its name, as they stand in their modules, needed ones first.

        Raises:
            ValueError: an expression that is to be replaced is in none of them.
        """
        for expression in self._missing:
            raise ValueError(f"{expression} is to be replaced and is in no text")
        modules = list(TopologicalSorter(self._needs).static_order())
        parts = sorted(self._names, key=lambda part: (modules.index(part.__module__), _line(part)))
        return {self._names[part]: self._texts[self._names[part]] for part in parts}


@functools.cache
def _text(part: Part) -> str:
    if part.__qualname__ != part.__name__:
        raise ValueError(f"{part.__qualname__} does not stand at the top of a module")
    try:
        return source_of(part)
    except (OSError, TypeError) as error:
        raise ValueError(f"the text of {part.__name__} is not there: {error}") from error


@functools.cache
def _line(part: Part) -> int:
    return inspect.getsourcelines(part)[1]


@functools.cache
def _names(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """The names that a text reads from outside of it, and those that its functions bind."""

    def symbols(table: SymbolTable) -> Iterator[tuple[str, bool]]:
        for symbol in table.get_symbols():
            yield symbol.get_name(), symbol.is_global()
        for inner in table.get_children():
            yield from symbols(inner)

    found = set(symbols(symtable(text, "a plugin's text", "exec")))
    read, bound = (frozenset(name for name, outer in found if outer is it) for it in (True, False))
    return read, bound


def names_read(text: str) -> frozenset[str]:
    """The names that a text reads from outside of it."""
    return _names(text)[0]


def _own(part: Part, name: str) -> Part | None:
    """What a name means where a part stands, if it is a class or function of the distribution's."""
    value = vars(sys.modules[part.__module__]).get(name)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return None
    package, theirs = (one.__module__.partition(".")[0] for one in (part, value))
    return value if theirs == package else None


def _import_of(part: Part, name: str) -> set[str]:
    """The line that imports what a name means where a part stands, if the file lacks it.

    Raises:
        ValueError: a written file cannot have it.
    """
    module = sys.modules[part.__module__]
    in_file = in_every_file()
    if name in in_file:
        if vars(module).get(name, in_file[name]) is in_file[name]:
            return set()
    elif line := _imports(module).get(name):
        if line.split()[1].partition(".")[0] in {"torch", *sys.stdlib_module_names}:
            return {line}
    elif name not in vars(module) and hasattr(builtins, name):
        return set()
    raise ValueError(
        f"{part.__name__} uses {name} of {module.__name__}, which a written file does not have: "
        "that has torch, the standard library, and classes and functions of the plugin's"
    )


@functools.cache
def in_every_file() -> Mapping[str, Any]:
    """What the names mean that no file needs to be told of."""
    meanings: dict[str, Any] = {}
    for line in ("from torch import Tensor, nn", *IMPORTS.values()):
        exec(line, meanings)
    return {name: meanings.get(name) for name in RESERVED}


@functools.cache
def _imports(module: ModuleType) -> Mapping[str, str]:
    """The import line of each name that a module imports, those for type checkers among them."""
    lines = {}
    statements = list(ast.parse(inspect.getsource(module)).body)
    for statement in statements:
        if isinstance(statement, ast.If):
            statements += [*statement.body, *statement.orelse]
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            for alias in statement.names:
                one: ast.stmt = ast.Import([alias])
                if isinstance(statement, ast.ImportFrom):
                    one = ast.ImportFrom(statement.module, [alias], statement.level)
                lines[alias.asname or alias.name.partition(".")[0]] = ast.unparse(one)
    return lines


def _renamed(text: str, own: str, names: Mapping[str, str]) -> str:
    """A text with other names for what it defines and uses.

    Raises:
        ValueError: a name to change is that of a variable, too, or within a text in text.
    """
    changed = {old: Name(new) for old, new in names.items() if old != new}
    if not changed:
        return text
    if own in changed:
        text = re.sub(rf"(?m)^(class|def) {own}\b", rf"\1 {changed[own].text}", text, count=1)
    text = _with(text, changed)
    for old in changed.keys() & {*_names(text)[0], *_names(text)[1]}:
        raise ValueError(f"{old} in {own} cannot be called {changed[old].text}")
    return text


def _with(text: str, values: Mapping[str, Value]) -> str:
    """A text with other expressions in the places of some; of two that overlap, the outer one."""
    expressions = _expressions(text)
    places = sorted(
        (start, -end, old)
        for old in values.keys() & expressions.keys()
        for start, end in expressions[old]
    )
    code, written, done = text.encode(), "", 0
    for start, negative_end, old in places:
        if start >= done:
            written += code[done:start].decode()
            line = written.rpartition("\n")[2]
            indent = len(line) - len(line.lstrip())
            written += render(values[old], indent, len(line) - indent)
            done = -negative_end
    return written + code[done:].decode()


@functools.cache
def _expressions(text: str) -> Mapping[str, list[tuple[int, int]]]:
    """Where each expression of a text stands, from byte to byte."""
    lengths = map(len, text.encode().splitlines(keepends=True))
    starts = list(itertools.accumulate(lengths, initial=0))
    places: dict[str, list[tuple[int, int]]] = {}
    nodes: list[ast.AST] = [ast.parse(text)]
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            continue  # Python before 3.12 does not tell where what is within it stands
        if isinstance(node, ast.expr) and node.end_lineno and node.end_col_offset:
            place = (
                starts[node.lineno - 1] + node.col_offset,
                starts[node.end_lineno - 1] + node.end_col_offset,
            )
            places.setdefault(ast.unparse(node), []).append(place)
        nodes += ast.iter_child_nodes(node)
    return places
