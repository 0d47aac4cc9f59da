"""YAML as configurations have it: plain values, and nothing that grows, runs or surprises.

Read are the types of YAML 1.2 that JSON has, and anchors. `190:20:30` is text, as 1.2 has it, and
not the 685,230 of YAML 1.1; so are `yes`, `2001-01-01`, `010` and `1_000`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from prunecore.errors import UsageError
from prunecore.escaping import shown_value

LONGEST = 200_000  # characters: a second's work
MOST = 10_000  # values, what aliases repeat counted each time
DEEPEST = 20  # lists and mappings within each other
DIGITS = 100  # of a number

_CORE = "tag:yaml.org,2002:"
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def read(text: str) -> Any:
    """The value of a YAML document: `None`, bool, int, float, text, and lists and dicts of them.

    Raises:
        UsageError: it is no YAML, has a tag that is not read, a key twice, a number that is too
            long, or is too long, too deep or too much, what aliases repeat counted each time.
    """
    if len(text) > LONGEST:
        raise UsageError(f"this is longer than the {LONGEST:,} characters that are read as YAML.")
    document = _Document()
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            document.take(event)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise _unreadable(problem, getattr(error, "problem_mark", None)) from error
    except (ValueError, OverflowError) as error:
        raise _unreadable("an escape or a version in it is out of range", None) from error
    return document.root[0] if document.root else None


@dataclass
class _Open:
    """A list or mapping whose end is not reached."""

    value: Any
    anchor: str | None
    before: int  # how many values were counted when it began
    key: Any = None
    has_key: bool = False


class _Document:
    """Puts the values of a document together, counting, without recursion."""

    def __init__(self) -> None:
        self.root: list[Any] = []
        self._open = [_Open(self.root, None, 0)]
        self._count = 0
        self._anchored: dict[str, tuple[Any, int]] = {}  # the value, and how many it holds

    def take(self, event: yaml.Event) -> None:
        """Take the next event of the parser."""
        if isinstance(event, yaml.DocumentStartEvent) and self.root:
            raise _wrong(event, "a second document begins")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchored:
                raise _wrong(
                    event, f"no value before it has the anchor {shown_value(event.anchor)}"
                )
            self._put(event, *self._anchored[event.anchor])
        elif isinstance(event, yaml.ScalarEvent):
            value = _scalar(event)
            self._note(event.anchor, value, 1)
            self._put(event, value, 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self._open.pop()
            self._note(done.anchor, done.value, self._count - done.before)

    def _begin(self, event: yaml.CollectionStartEvent) -> None:
        is_list = isinstance(event, yaml.SequenceStartEvent)
        if event.tag not in (None, "!", _CORE + ("seq" if is_list else "map")):
            raise _wrong(event, f"the tag {shown_value(event.tag)} is not read")
        if len(self._open) > DEEPEST:
            raise _wrong(event, f"more than {DEEPEST} lists and mappings lie within each other")
        value: Any = [] if is_list else {}
        before = self._count
        self._put(event, value, 1)
        self._open.append(_Open(value, event.anchor, before))

    def _note(self, anchor: str | None, value: Any, count: int) -> None:
        if anchor is not None:
            self._anchored[anchor] = value, count

    def _put(self, event: yaml.Event, value: Any, count: int) -> None:
        """Put a value into the innermost list or mapping."""
        self._count += count
        if self._count > MOST:
            raise _wrong(event, f"it holds more than {MOST:,} values, what aliases repeat counted")
        into = self._open[-1]
        if isinstance(into.value, list):
            into.value.append(value)
        elif into.has_key:
            into.value[into.key] = value
            into.has_key = False
        else:
            if isinstance(value, list | dict):
                raise _wrong(event, "a list or mapping cannot be a key")
            if value in into.value:
                raise _wrong(event, f"the key {shown_value(value)} is there twice")
            into.key, into.has_key = value, True


def _scalar(event: yaml.ScalarEvent) -> Any:
    text = event.value
    if event.tag in (None, "!"):
        is_plain = event.tag is None and event.implicit[0]
        return _plain(event, text) if is_plain else text
    kind = event.tag.removeprefix(_CORE)
    if kind == "str":
        return text
    kinds = {"int": int, "float": float, "bool": bool, "null": type(None)}
    value = _plain(event, text)
    if kind == "float" and type(value) is int:
        return float(value)
    if type(value) is not kinds.get(kind):
        raise _wrong(
            event, f"the tag {shown_value(event.tag)} is not read, or not for {shown_value(text)}"
        )
    return value


def _plain(event: yaml.Event, text: str) -> Any:
    """The value of text without quotes, by the core schema of YAML 1.2."""
    if text in _NULL:
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text.lower() == "true"
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    base = 10 if _DECIMAL.fullmatch(text) else 0 if _OTHER_BASE.fullmatch(text) else None
    if base is None and not _FLOAT.fullmatch(text):
        return text
    if len(text) > DIGITS:
        raise _wrong(event, f"a number has more than {DIGITS} digits")
    number = float(text) if base is None else int(text, base)
    if number in (float("inf"), float("-inf")):
        raise _wrong(event, f"the number {shown_value(text)} is too large")
    return number


def _wrong(event: yaml.Event, problem: str) -> UsageError:
    return _unreadable(problem, event.start_mark)


def _unreadable(problem: str, mark: Any) -> UsageError:
    where = f" in line {mark.line + 1}" if mark else ""
    return UsageError(f"this cannot be read as YAML: {problem}{where}.")
