"""Every error that prunecore raises on purpose; each message says what, where, and what to do."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple

from prunecore.escaping import shown, shown_value, visible

_LONGEST_LINE = 1000  # characters; of a longer one the middle is left out
_REASON = 400  # characters of another error's message
_NAMES = 32  # that are known are listed, all modes and keys among them
_SOME = 12  # of more, as modules may be hundreds


class PrunecoreError(Exception):
    """The job could not be done; the command line ends with `exit_code`."""

    exit_code = 1

    def __str__(self) -> str:
        """One line or two, whatever names and texts of others are in them."""
        return _lines(super().__str__())


class UsageError(PrunecoreError):
    """The request itself is wrong: an unknown name, a value out of range, a missing file."""

    exit_code = 2


class PluginError(PrunecoreError):
    """A plugin is missing, broken, or answered a hook with something that cannot be used."""


class UnsupportedError(PrunecoreError):
    """A module or operation that is not understood: refused, never guessed or skipped."""

    def __init__(
        self, path: str, class_name: str, reason: str, remedy: str, line: Line | None = None
    ) -> None:
        super().__init__(path, class_name, reason, remedy, line)
        self.path = path
        self.class_name = class_name
        self.reason = reason
        self.remedy = remedy
        self.line = line

    def __str__(self) -> str:
        """What, where and why on the first line, and what to do on the second."""
        where = f"{shown(self.path) or 'the network'} ({shown(self.class_name)})"
        at = f" ({self.line})" if self.line else ""
        return _lines(f"Cannot prune through {where}: {self.reason}{at}.\n{self.remedy}")


class UnwritableError(PrunecoreError):
    """A name or value that no file can state.

    Attributes:
        reason: completes "Cannot write the network: ...".
        remedy: what the user can do, a sentence.
    """

    def __init__(self, reason: str, remedy: str = "Give it another name or value.") -> None:
        super().__init__(f"Cannot write the network: {reason}.")
        self.reason, self.remedy = reason, remedy


class InputShapeError(PrunecoreError):
    """The network cannot take an input of the asked shape."""


class WeightsError(PrunecoreError):
    """A weights file cannot be read or does not fit the network."""


class LevelError(PrunecoreError):
    """The asked level cannot be reached; the message names the highest that can."""


class VerificationError(PrunecoreError):
    """The written network does not compute what the masked original does."""


def _lines(message: str) -> str:
    """A message whose last line says what to do; nothing in it turns a terminal to its own use."""
    *what, remedy = message.split("\n")
    lines = [" ".join(line.strip() for line in what), remedy] if what else [remedy]
    return "\n".join(_cut(visible(re.sub(r"[\t\r]+", " ", line))) for line in lines)


def _cut(line: str) -> str:
    if len(line) <= _LONGEST_LINE:
        return line
    return f"{line[: _LONGEST_LINE - 200]} ... {line[-190:]}"


def told(error: BaseException) -> str:
    """What was raised, on one line."""
    return f"{shown(type(error).__name__)}: {reason_of(error) or 'no message'}"


def a_kind(value: object) -> str:
    """The type of a value with its article: `a dict`, `an int`, `an LSTM`."""
    name = shown(type(value).__name__)
    is_spelt = not name[1:2].islower() or name.startswith("nd")  # letter by letter
    return f"{'an' if name[0].lower() in ('aefhilmnorsx' if is_spelt else 'aeiou') else 'a'} {name}"


def reason_of(error: BaseException) -> str:
    """What an error says, on one line; nothing where it cannot say it."""
    try:
        return one_line(str(error))
    except Exception:  # whatever a stranger's __str__ raises
        return ""


def one_line(text: str) -> str:
    """What another program says, on one line, shortened in its middle where it is long."""
    return shown(" ".join(text.split()), _REASON)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not known, with the known ones and the nearest of them."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {shown_value(near[0])}?" if near else ""
    are_many = len(names) > _NAMES
    listed = [*map(shown, names[: _SOME if are_many else _NAMES]), *["..."] * are_many]
    return UsageError(
        f"Unknown {shown(kind)} {shown_value(name)}.{hint}\nKnown: {', '.join(listed) or 'none'}."
    )


def check_kind(what: str, value: object, kinds: type | tuple[type, ...], remedy: str) -> None:
    """Refuse a value that is of no kind that it can be of.

    Args:
        what: it is the value of, as the user wrote it.
        value: what was given.
        kinds: what it may be.
        remedy: the sentence that says what to give.

    Raises:
        UsageError: it is of none of these.
    """
    if not isinstance(value, kinds):
        named = type(value).__name__ if value is not None else "None"
        raise UsageError(f"{what} is {shown_value(value)}, of the type {shown(named)}.\n{remedy}")


def check_names(what: str, value: object, remedy: str) -> None:
    """Refuse what is no list of texts.

    Args:
        what: it is the value of, as the user wrote it.
        value: what was given.
        remedy: the sentence that says what to give.

    Raises:
        UsageError: it is none.
    """
    check_kind(what, value, (list, tuple, set, frozenset), remedy)
    for item in value:  # type: ignore[attr-defined]
        check_kind(f"One of {what}", item, str, remedy)


class Line(NamedTuple):
    """A line of a file."""

    file: str
    number: int

    def __str__(self) -> str:
        """Where it is, and what it says."""
        text = linecache.getline(self.file, self.number).strip()
        return f"{self.file}:{self.number}" + (f", `{text}`" if text else "")


GROUP = "prunecore"


BLOCK_VARIABLE = "PRUNECORE_BLOCK"  # names of plugins that are not to be loaded, by comma


@dataclass(frozen=True)
class Provider:
    """A plugin as errors name it.

    Attributes:
        name: by which it can be blocked.
        label: distribution and version.
    """

    name: str
    label: str

    @property
    def is_core(self) -> bool:
        """True of the core's own plugin, which cannot be blocked."""
        return self.label.split(" ")[0] == GROUP

    def error(self, what: str) -> PluginError:
        """The error for what the plugin does wrong, told without its name and full stop."""
        return PluginError(
            f"{self.label}: {what.rstrip('.')}.\n"
            f"Report it to the plugin's author, or block it: {BLOCK_VARIABLE}={self.name}."
        )

    def disagrees(self, other: Provider, what: str) -> PluginError:
        """The error for what two plugins do that only one of them may, told as in `error`."""
        if other is self:
            return self.error(what)
        blocks = [f"{BLOCK_VARIABLE}={one.name}" for one in (other, self) if not one.is_core]
        return PluginError(f"{self.label}: {what}.\nBlock one of them: {' or '.join(blocks)}.")
