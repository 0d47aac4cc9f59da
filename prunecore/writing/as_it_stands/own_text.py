"""Texts of a network's own functions, classes and constants, for what is written as it stands.

They are those of the user's modules, word for word, with all that they use. A written file has
torch and the standard library beside them, and torchvision where a text imports it: what is
compiled there has no text.
"""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import linecache
import re
import sys
import textwrap
import types
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch.overrides import resolve_name

from prunecore.errors import UnwritableError, a_kind
from prunecore.escaping import shown
from prunecore.writing.as_it_stands.class_text import in_every_file, names_read
from prunecore.writing.expressions import literal
from prunecore.writing.text import RESERVED, render

_LIBRARIES = frozenset({"torch", "torchvision", *sys.stdlib_module_names})


class OwnTexts:
    """The definitions of a file that are taken from a user's modules.

    Args:
        taken: the names that something else has in the file.

    Attributes:
        texts: each definition by its name, after those that it uses.
        imports: import lines that they need.
    """

    def __init__(self, taken: Collection[str]) -> None:
        self._taken = taken
        self.texts: dict[str, str] = {}
        self.imports: set[str] = set()
        self._values: dict[str, Any] = {}  # what each name of the file means
        self._open: list[str] = []  # the names that are being defined

    @property
    def names(self) -> set[str]:
        """All that they give the file: what is defined and what is imported."""
        return set(self._values)

    def define(self, part: Any) -> str:
        """Define a class or function, with all that it uses.

        Returns:
            Its name.

        Raises:
            UnwritableError: it has no text, or uses what a file does not have.
        """
        name = str(part.__name__)
        if name not in self._values:
            text, known = _text_of(part), _variables(part)
            self._claim(name, part)
            self._open.append(name)
            self.resolve(text, known, name)
            self._open.pop()
            self.texts[name] = text
        elif self._values[name] is not part:
            raise UnwritableError(f"two different things in it are called {shown(name)}")
        return name

    def resolve(
        self, text: str, known: Mapping[str, Any], of: str, beside: Collection[str] = ()
    ) -> None:
        """See to it that what a text uses is there.

        Args:
            text: of a function or class.
            known: what the names mean where it stands.
            of: whose it is, for messages.
            beside: names that stand beside it.

        Raises:
            UnwritableError: a file cannot have it.
        """
        for name in sorted(names_read(text)):
            if name in known:
                self._resolve_one(name, known, of)
            elif hasattr(builtins, name) or name in (*self._open, *beside):
                continue
            elif line := _typing_line(name, known):
                self.imports.add(line)
            else:
                raise UnwritableError(f"{of} uses {name}, which is not known where it stands")

    def _resolve_one(self, name: str, known: Mapping[str, Any], of: str) -> None:
        value = known[name]
        meaning = in_every_file().get(name, self)
        if meaning is value or (name in self._values and self._values[name] is value):
            return
        if line := _import_line(name, value, known):
            self._claim(name, value)
            self.imports.add(line)
        elif inspect.isfunction(value) or inspect.isclass(value):
            if value.__name__ != name:
                raise UnwritableError(f"{of} uses {value.__name__} under the name {name}")
            self.define(value)
        elif isinstance(value, types.ModuleType):
            raise UnwritableError(
                f"{of} uses {name}, and a written file has torch and the standard library alone"
            )
        elif not name.startswith("__"):
            self._claim(name, value)
            self.texts[name] = self._assigned(name, value, known, of)

    def _assigned(self, name: str, value: Any, known: Mapping[str, Any], of: str) -> str:
        """The statement that gives a name its value: by the value, or as the user wrote it."""
        if is_statable(value):
            return f"{name} = {render(literal(value), 0, len(name) + 3)}\n"
        source = "".join(linecache.getlines(known.get("__file__", "")))
        for node in _parsed(source).body if _is_of_libraries(type(value)) else ():
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
                text = ast.get_source_segment(source, node) or ""
                self.resolve(text, known, of)
                return f"{text}\n"
        raise UnwritableError(f"{of} uses {name}, {a_kind(value)}, which no file can state")

    def _claim(self, name: str, value: Any) -> None:
        if name in RESERVED:
            raise UnwritableError(f"it uses {name}, which is another thing in a written file")
        is_other = name in self._values and self._values[name] is not value
        if is_other or name in self._taken:
            raise UnwritableError(f"two different things in it are called {shown(name)}")
        self._values[name] = value


def text_of_function(function: Callable[..., Any]) -> str:
    """The text of a function or method, at no indent.

    Raises:
        UnwritableError: it is not there.
    """
    try:
        return textwrap.dedent(inspect.getsource(function)).rstrip() + "\n"
    except (OSError, TypeError, IndentationError) as error:
        name = getattr(function, "__qualname__", function)
        raise UnwritableError(f"the text of {name} is not there") from error


def variables_of(function: Callable[..., Any]) -> Mapping[str, Any]:
    """What the names that a function does not bind mean where it stands."""
    plain: Any = inspect.unwrap(function)
    cells = zip(plain.__code__.co_freevars, plain.__closure__ or (), strict=True)
    closed = {name: cell.cell_contents for name, cell in cells if name != "__class__"}
    return {**plain.__globals__, **closed}


def _variables(part: Any) -> Mapping[str, Any]:
    return variables_of(part if inspect.isfunction(part) else _any_method(part))


def _any_method(cls: type) -> Callable[..., Any]:
    """A method of a class's own text, which tells the file and the variables that it has."""
    for value in vars(cls).values():
        function = getattr(value, "__func__", value)
        if inspect.isfunction(function) and function.__module__ == cls.__module__:
            return function
    raise UnwritableError(f"the text of {cls.__name__} is not there")


def _text_of(part: Any) -> str:
    """The text of a function or class.

    Raises:
        UnwritableError: it is not there.
    """
    if inspect.isfunction(part):
        if part.__name__ == "<lambda>":
            raise UnwritableError("it uses a lambda, which has no name in a written file")
        return text_of_function(part)
    code: Any = inspect.unwrap(_any_method(part)).__code__
    text = "".join(linecache.getlines(code.co_filename))
    for node in ast.walk(_parsed(text)):
        if isinstance(node, ast.ClassDef) and node.name == part.__name__:
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            if first <= code.co_firstlineno <= (node.end_lineno or first):
                rows = text.splitlines(keepends=True)[first - 1 : node.end_lineno]
                return textwrap.dedent("".join(rows)).rstrip() + "\n"
    raise UnwritableError(f"the text of {part.__name__} is not there")


@functools.lru_cache(64)
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


def _import_line(name: str, value: Any, known: Mapping[str, Any]) -> str | None:
    """The line that imports a value of torch, the standard library or torchvision by a name."""
    if isinstance(value, types.ModuleType):
        if not _is_importable(value.__name__):
            return None
        return f"import {value.__name__}" + ("" if value.__name__ == name else f" as {name}")
    if line := _imported(known.get("__file__")).get(name):
        return line if _is_importable(line.split()[1]) else None
    public = (resolve_name(value) if callable(value) else None) or ""
    module, _, own = public.rpartition(".")
    module = module or str(getattr(value, "__module__", ""))
    own = own or str(getattr(value, "__name__", ""))
    if getattr(sys.modules.get(module), own, None) is not value or not _is_importable(module):
        return None
    return f"from {module} import {own}" + ("" if own == name else f" as {name}")


def _typing_line(name: str, known: Mapping[str, Any]) -> str | None:
    """The import line of a name that a file imports for type checkers alone."""
    line = _imported(known.get("__file__")).get(name, "")
    return line if line and _is_importable(line.split()[1]) else None


def _is_importable(module: str) -> bool:
    return module.partition(".")[0] in _LIBRARIES


@functools.lru_cache(64)
def _imported(file: str | None) -> Mapping[str, str]:
    """The import line of each name that a file imports from a module."""
    lines = {}
    for node in ast.walk(_parsed("".join(linecache.getlines(file or "")))):
        if isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                one = ast.ImportFrom(node.module, [alias], 0)
                lines[alias.asname or alias.name] = ast.unparse(one)
    return lines


def _is_of_libraries(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in _LIBRARIES - {"torch", "torchvision"}


def without_class(text: str) -> str:
    """A method's text in which `super(Class, self)` is `super()`."""
    return re.sub(r"\bsuper\(\s*\w+\s*,\s*\w+\s*\)", "super()", text)


def is_statable(value: Any) -> bool:
    """True if a file can state a value."""
    try:
        render(literal(value))
    except UnwritableError:
        return False
    return not isinstance(value, torch.Tensor)
