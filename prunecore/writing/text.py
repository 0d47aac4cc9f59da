"""Values as Python text: names, calls and literals, and how long ones are laid out over lines."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import itertools
import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch

from prunecore.errors import UnwritableError, a_kind
from prunecore.escaping import is_name, quoted


def source_of(part: Any) -> str:
    """The text of a class or a function as it stands in its module.

    Raises:
        OSError: it is not there. From Python 3.13 on, `inspect` gives for a class that was made
            from a string what stands at its line in the module that it says it is of.
        TypeError: it is Python's own.
    """
    text = inspect.getsource(part)
    if isinstance(part, type) and not re.search(
        rf"^\s*class {part.__name__}\b", text, re.MULTILINE
    ):
        raise OSError(f"another text is at the line of class {part.__name__}")
    return text


def free_name(name: str, taken: set[str], stem: str | None = None) -> str:
    """The name; where it is taken, the stem, which is the name unless it is given, numbered."""
    numbered = (f"{name if stem is None else stem}{number}" for number in itertools.count(2))
    return next(free for free in itertools.chain([name], numbered) if free not in taken)


LINE = 88  # columns


INDENT = 4


IMPORTS = {  # name in a file to the import that it needs
    "math": "import math",
    "operator": "import operator",
    "OrderedDict": "from collections import OrderedDict",
    "Any": "from typing import Any",
    "NamedTuple": "from typing import NamedTuple",
    "torch": "import torch",
    "F": "from torch.nn import functional as F",
}


DEFINITIONS = {  # name in a file to the text that defines it there
    # a digit a channel, for what would take a line each as a list of places
    "interleaved": '''\
def interleaved(parts: str) -> list[int]:
    """The order of channels taken in turn from the parts named: [0, 2, 3, 1] for "0110"."""
    by_part = sorted(range(len(parts)), key=parts.__getitem__)
    return sorted(range(len(parts)), key=by_part.__getitem__)
''',
    # torch's own takes no names
    "NamedLayers": '''\
class NamedLayers(nn.ModuleList):
    """A list of layers that have names in place of numbers."""

    def __init__(self, layers: dict[str, nn.Module]) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
''',
}


_CALLED = """
    bool complex dict enumerate float getattr int len list range setattr sorted str super tuple zip
"""

CALLED = frozenset(_CALLED.split())  # functions and types of Python's own that written text names

RESERVED = frozenset(  # names that nothing else in a file may have
    {*IMPORTS, *DEFINITIONS, *CALLED, "Tensor", "nn", "self"}
)


def is_taken(name: str) -> bool:
    """True if a name has a meaning in every file: Python's, or that of what a file imports."""
    return name in RESERVED or hasattr(builtins, name)


REQUIRED = inspect.Parameter.empty  # the default of a parameter that has none


LONGEST_ROW = 16  # numbers in a list; longer ones are a table of full rows


Value: TypeAlias = Any  # a literal, a Call, a Name, or a list, tuple or dict of them

# A value's opening, its items with what is written before each, and its closing.
Parts: TypeAlias = tuple[str, list[tuple[str, Value]], str]


@dataclass(frozen=True)
class Name:
    """A name or expression that is written as it stands.

    Attributes:
        text: the expression.
        precedence: how tightly it binds as an operand; 9 for names, calls and indexing.
    """

    text: str
    precedence: int = 9


@dataclass(frozen=True)
class Call:
    """A constructor call.

    Attributes:
        function: what is called, `nn.Conv2d`.
        positional: the arguments without their names.
        names: the parameters that they are, where known.
        keywords: the arguments with their names, in the order in which they are written.
        defaults: the values of keywords that need not be written.
    """

    function: str
    positional: tuple[Value, ...] = ()
    keywords: Mapping[str, Value] = field(default_factory=dict)
    defaults: Mapping[str, Value] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, constructor: type, **arguments: Value) -> Call:
        """The call of a class of `torch.nn` with these arguments, in the order of its signature.

        Arguments without a default are written by place, the others by name and only where they
        differ from their default.

        Args:
            constructor: the class, called as `nn.Name`.
            arguments: all that its instance was made with, by name.
        """
        known = [*_defaults(constructor).items()]
        arguments = {name: without_noise(value) for name, value in arguments.items()}
        names = tuple(name for name, x in known if x is REQUIRED and name in arguments)
        positional = tuple(arguments[name] for name in names)
        defaults = {name: x for name, x in known if x is not REQUIRED and name in arguments}
        keywords = {name: arguments[name] for name in defaults}
        return cls(f"nn.{constructor.__name__}", positional, keywords, defaults, names)

    def __str__(self) -> str:
        return self.line

    # a call is written inside of many others, and measured before each: once for all of these
    @functools.cached_property
    def line(self) -> str:
        """The call on one line, however long."""
        return _on_one_line(*self.parts)

    @functools.cached_property
    def parts(self) -> Parts:
        """Its opening, its arguments with what is written before each, and its closing."""
        written = self.keywords
        if self.defaults:
            written = {
                key: item
                for key, item in written.items()
                if not (key in self.defaults and same(item, self.defaults[key]))
            }
        named = dict(itertools.takewhile(lambda entry: is_name(entry[0]), written.items()))
        items = _without_repeats(self.positional)
        items += [(f"{key}=", item) for key, item in named.items()]
        if len(named) < len(written):  # from a key on that is no name, all of them in a dictionary
            items.append(("**", dict([*written.items()][len(named) :])))
        return f"{self.function}(", items, ")"

    @functools.cached_property
    def holds_table(self) -> bool:
        """True if a long list of numbers is among its arguments, however deep."""
        return any(holds_table(item) for _, item in self.parts[1])


@dataclass(frozen=True)
class BlockSource:
    """How a block is written.

    Attributes:
        call: its constructor call.
        definitions: the classes and functions that the call needs, text by name, in order.
        imports: further import lines that the definitions need.
    """

    call: Value
    definitions: Mapping[str, str] = field(default_factory=dict)
    imports: frozenset[str] = frozenset()


def without_noise(value: Value) -> Value:
    """A number without the rounding of what computed it: `0.03` for `(0.485 - 0.5) / -0.5`.

    In float32 and shorter types the two are one number.
    """
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    plain = float(f"{value:.12g}")
    return plain if 2 * len(repr(plain)) <= len(repr(value)) else value


@functools.cache
def _defaults(constructor: type) -> Mapping[str, Value]:
    """The parameters of a class, each with its default, or `REQUIRED`."""
    parameters = inspect.signature(constructor).parameters
    return {name: parameter.default for name, parameter in parameters.items()}


def render(value: Value, indent: int = 0, taken: int = 0) -> str:
    """Write a value; over several lines where one is too short.

    Arguments stand together on a line of their own where they fit; layers that a container is
    given stand one below the other. Numbers of a long list fill rows.

    Args:
        value: what to write.
        indent: columns that the statement is indented by.
        taken: columns of the first line that are used, beside the indent.
    """
    line = one_line(value)
    has_table = holds_table(value)
    if indent + taken + len(line) <= LINE and not has_table:
        return line
    opening, items, closing = _parts(value)
    inner = indent + INDENT
    if isinstance(value, _Repeated):
        margin = f"\n{' ' * inner}"
        clauses = value.clauses(lambda calls, taken: render(calls, inner, taken))
        return f"({margin}{margin.join(clauses)}\n{' ' * indent})"
    if isinstance(value, str) and len(line) > LINE - inner:
        return _string(value, indent)
    if laid_out := _over_lines(value, line, indent):
        return laid_out
    if _is_table(value):
        return f"{opening}\n{_filled(items, inner)}\n{' ' * indent}{closing}"
    if not items:
        return line
    if (
        isinstance(value, Call)
        and not has_table
        and sum(isinstance(item, Call) for item in value.positional) < 2
    ):
        together = line.removeprefix(opening)[: -len(closing)]
        if inner + len(together) <= LINE:
            return f"{opening}\n{' ' * inner}{together}\n{' ' * indent}{closing}"
    is_call = isinstance(value, Call)  # whose parentheses are those of the parts, too
    if is_call and len(items) == 1 and isinstance(items[0][1], str) and not items[0][0]:
        return opening + render(items[0][1], indent, LINE).removeprefix("(")
    rows = [" " * inner + key + render(item, inner, len(key) + 1) + ",\n" for key, item in items]
    return f"{opening}\n{''.join(rows)}{' ' * indent}{closing}"


def _over_lines(value: Value, line: str, indent: int) -> str | None:
    """A chain of calls, an item's index, on lines of their own; `None` for another value."""
    if not isinstance(value, Call | Name):
        return None
    ends = _links(line) if isinstance(value, Call) else ()
    inner = " " * (indent + INDENT)
    if len(ends) > 1 and len(inner) + len(line) <= LINE:
        links, opening, closing = [line], "(", ")"
    elif len(ends) > 1:
        starts = (0, *ends)
        links = [line[a:b] for a, b in zip(starts, (*ends, len(line)), strict=True)]
        opening, closing = "(", ")"
    elif isinstance(value, Name) and (place := _index_of(line)):
        links, opening, closing = [line[place:-1]], line[:place], "]"
    else:
        return None
    if any(len(inner) + len(link) > LINE for link in links) or holds_table(value):
        return None
    rows = "".join(f"{inner}{link}\n" for link in links)
    return f"{opening}\n{rows}{' ' * indent}{closing}"


_LINK = re.compile(r"[)\]]\s*\.")


def _links(text: str) -> tuple[int, ...]:
    """Where in a chain of calls an attribute of what is called, indexed or in parentheses begins.

    Of two or more of these, ruff puts each on a line of its own.
    """
    places: list[int] = []
    if not _LINK.search(text):
        return ()
    node = ast.parse(text, mode="eval").body
    encoded = text.encode()
    while isinstance(node, ast.Call | ast.Subscript | ast.Attribute):
        inner = node.func if isinstance(node, ast.Call) else node.value
        if isinstance(node, ast.Attribute):
            place = encoded.index(b".", inner.end_col_offset)
            if encoded[:place].rstrip().endswith((b")", b"]")):
                places.append(len(encoded[:place].decode()))
        node = inner
    return tuple(reversed(places))


def _index_of(text: str) -> int | None:
    """Where the index of an item begins; `None` for another expression."""
    node = ast.parse(text, mode="eval").body
    if not isinstance(node, ast.Subscript):
        return None
    encoded = text.encode()
    return len(encoded[: encoded.index(b"[", node.value.end_col_offset) + 1].decode())


def holds_table(value: Value) -> bool:
    """True if a value is a long list of numbers, or holds one: no formatter is to spread it."""
    if isinstance(value, Call):
        return value.holds_table
    if not isinstance(value, dict | list | tuple):
        return False
    return _is_table(value) or any(holds_table(item) for _, item in _parts(value)[1])


def _is_table(value: Value) -> bool:
    return (
        isinstance(value, list)
        and len(value) > LONGEST_ROW
        and all(isinstance(item, int | float) for item in value)
    )


def _filled(items: Sequence[tuple[str, Value]], indent: int) -> str:
    """The rows of a table, each as long as a line takes."""
    text = ", ".join(one_line(item) for _, item in items) + ","
    margin = " " * indent
    return textwrap.fill(text, LINE, initial_indent=margin, subsequent_indent=margin)


def _string(value: str, indent: int) -> str:
    """A string in parts, below each other."""
    inner = indent + INDENT
    length = LINE - inner - 2
    parts = (value[start : start + length] for start in range(0, len(value), length))
    rows = "".join(f"{' ' * inner}{_text(part)}\n" for part in parts)
    return f"(\n{rows}{' ' * indent})"


def one_line(value: Value) -> str:
    """Write a value on one line, however long."""
    if isinstance(value, Call):
        return value.line
    opening, items, closing = _parts(value)
    if isinstance(value, tuple) and len(items) == 1:
        closing = ",)"
    return _on_one_line(opening, items, closing)


def _on_one_line(opening: str, items: list[tuple[str, Value]], closing: str) -> str:
    return f"{opening}{', '.join([key + one_line(item) for key, item in items])}{closing}"


def _parts(value: Value) -> Parts:
    if isinstance(value, Call):
        return value.parts
    if isinstance(value, _Repeated):
        return f"({' '.join(value.clauses(lambda calls, _: one_line(calls)))})", [], ""
    if isinstance(value, dict):
        return "{", [(f"{one_line(key)}: ", item) for key, item in value.items()], "}"
    if isinstance(value, list):
        return "[", _without_repeats(value), "]"
    if isinstance(value, tuple):
        return "(", [("", item) for item in value], ")"
    return _text(value), [], ""


@dataclass(frozen=True)
class _Repeated:
    """A generator of calls that follow each other again and again.

    Attributes:
        calls: one or more.
        turns: how often.
    """

    calls: tuple[Call, ...]
    turns: int

    def clauses(self, write: Callable[[Value, int], str]) -> list[str]:
        """What stands between its parentheses.

        Args:
            write: writes a value, of which so many columns of the first line are taken.
        """
        again = f"for _ in range({self.turns})"
        if len(self.calls) == 1:
            return [write(self.calls[0], 0), again]
        of_turn = "for layer in "
        return ["layer", again, of_turn + write(self.calls, len(of_turn))]


def _without_repeats(values: Sequence[Value]) -> list[tuple[str, Value]]:
    """Items, with what is written before each; calls that follow each other often once."""
    items: list[tuple[str, Value]] = [("", value) for value in values]
    if len(items) < _OFTEN or not all(isinstance(value, Call) for value in values):
        return items
    texts = [one_line(value) for value in values]
    shorter: list[tuple[str, Value]] = []
    start = 0
    while start < len(items):
        period, turns = _repeats(texts, start)
        calls = tuple(values[start : start + period])
        if period * turns < _OFTEN or any(map(_OWN_NAMES.search, texts[start : start + period])):
            shorter.append(items[start])
            start += 1
        else:
            shorter.append(("*", _Repeated(calls, turns)))
            start += period * turns
    return shorter


def _repeats(texts: Sequence[str], start: int) -> tuple[int, int]:
    """How many texts repeat from a place on, and how often, where that makes most of them."""
    period, turns = 1, 1
    for length in range(1, _MOST_AT_ONCE + 1):
        end = start + length
        while end < len(texts) and texts[end] == texts[end - length]:
            end += 1
        often = (end - start) // length
        if often > 1 and often * length > turns * period:
            period, turns = length, often
    return period, turns


_OWN_NAMES = re.compile(r"\b(_|layer)\b")  # of the generators that repeat calls
_OFTEN = 8  # calls, from which on they are written as repeated ones
_MOST_AT_ONCE = 4  # calls that are repeated together


def plain(value: Value) -> Value:
    """A leaf of a value as Python's own, or as the name that torch has for it.

    A class that derives from a number or a text has no say in how that is written.

    Raises:
        UnwritableError: it is nothing that a file can state.
    """
    if isinstance(value, Name) or value is None or value is ... or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return value if type(value) is int else int.__int__(value)
    if isinstance(value, float):
        return value if type(value) is float else float.__float__(value)
    if isinstance(value, complex):
        return Call("complex", (value.real, value.imag))
    for kind, number in _OF_NUMPY.items():
        if isinstance(value, kind):
            return number(value)
    if isinstance(value, torch.dtype | torch.memory_format | torch.layout):
        return Name(str(value))
    if isinstance(value, torch.device):
        return Call("torch.device", (str(value),))
    if type(value) is bytes:
        return Name(repr(value))
    raise UnwritableError(
        f"it has {a_kind(value)}, which no file can state: that is no number, "
        "text, type or device, and no list, tuple or dictionary of such"
    )


def _text(value: Value) -> str:
    value = plain(value)
    if isinstance(value, Name):
        return value.text
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, Call):
        return one_line(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'  # the text of `inf` is a name without meaning
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return hex(value)
    return repr(value)


_OF_NUMPY: Mapping[type, type] = {np.bool_: bool, np.integer: int, np.floating: float}


_MOST_BITS = 4096  # of a whole number in decimal, of which Python reads only so many digits


def same(first: Value, second: Value) -> bool:
    """True if two values are written alike: `1` and `True` are not, `0.0` and `-0.0` are not."""
    if first is second:
        return True
    if isinstance(first, int) and isinstance(second, int):
        return isinstance(first, bool) == isinstance(second, bool) and first == second
    if type(first) is not type(second):
        return False
    if isinstance(first, float):
        return float.__repr__(first) == float.__repr__(second)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, dict):
        pairs = zip(first.items(), second.items(), strict=True)
        return len(first) == len(second) and all(same(one, other) for one, other in pairs)
    return bool(first == second)


def fits(value: Value, indent: int, before: int, spread: bool = False) -> bool:
    """True if an expression stands on one line, after what may come before it.

    Args:
        value: the expression.
        indent: columns that its statement is indented by.
        before: columns of `return ` or of what assigns it.
        spread: whether each item of a dictionary may stand on a line of its own.
    """
    if spread and isinstance(value, dict):
        return all(fits({key: item}, indent + INDENT, before) for key, item in value.items())
    return indent + before + len(one_line(value)) <= LINE


def fits_in_rows(value: Value, indent: int) -> bool:
    """True if each argument of a call stands on one line of its own.

    Args:
        value: the call.
        indent: columns that its statement is indented by.
    """
    rows = (f"{key}{one_line(item)}," for key, item in _parts(value)[1])
    return all(indent + INDENT + len(row) <= LINE for row in rows)
