"""The one place where texts of models, files and flags become Python, or what a terminal shows.

A module's key, a class's name or a file's name may hold anything: quotes, line breaks, marks that
turn the direction of writing, letters that Python folds into others. Whatever is written goes
through one of these functions, so that it stands for itself and is never read as code.
"""

from __future__ import annotations

import builtins
import keyword
import re
import reprlib
import unicodedata

LONGEST = 200  # characters of a text that a message shows


_VALUE = 80  # characters of a value that a message shows


def is_name(text: str) -> bool:
    """True if Python reads a text, wherever it stands in a class, as the very name that it is.

    It folds look-alike letters (`ﬁ` into `fi`), and puts a class's name before two underscores.
    """
    return (
        text.isidentifier()
        and not keyword.iskeyword(text)
        and unicodedata.is_normalized("NFKC", text)
        and not (text.startswith("__") and not text.endswith("__"))
    )


def nearest_name(text: str, stem: str) -> str:
    """The name most like a text; one that begins with a stem where that is none by itself."""
    if is_name(text) and not text.startswith("__"):
        return text
    folded = unicodedata.normalize("NFKC", text)
    name = "".join(letter if f"_{letter}".isidentifier() else "_" for letter in folded).strip("_")
    name = unicodedata.normalize("NFKC", name)
    return name if is_name(name) else f"{stem}_{name}".rstrip("_")


def is_number(text: str) -> bool:
    """True if a key is that of a place in a list, as Python counts: `0`, `12`, but not `01`.

    One of more than four digits is none: so many places before it nobody writes out.
    """
    return re.fullmatch(r"0|[1-9][0-9]{0,3}", text) is not None


def quoted(text: str) -> str:
    """A text as a literal: on one line, of what can be seen, in the quotes that need less escapes.

    Args:
        text: what is to be quoted; a class that derives from `str` has no say in it.
    """
    quote = "'" if str.count(text, '"') > str.count(text, "'") else '"'
    return f"{quote}{_escaped(text, quote)}{quote}"


def in_toml(text: str) -> str:
    """A text as a string of TOML, in double quotes."""
    return "".join(['"', *(_of_toml(letter) for letter in text), '"'])


def in_docstring(text: str) -> str:
    """A text as it stands between triple quotes, its lines as they are."""
    lines = (_escaped(line, '"""') for line in text.split("\n"))
    return "\n".join(lines)


def shown(text: object, longest: int = LONGEST) -> str:
    """A text for people: on one line, of what can be seen, without the middle of a long one."""
    return visible(_shortened(str(text), longest))


class _Short(reprlib.Repr):
    """The text of a value, whatever its size: little of it is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxdict, self.maxlist, self.maxtuple = 3, 3, 4, 4
        self.maxstring = self.maxother = _VALUE

    def repr_int(self, x: int, level: int) -> str:
        """A whole number; Python refuses to write one of thousands of digits."""
        if x.bit_length() <= 4 * _VALUE:
            return repr(x)
        return f"a number of {x.bit_length() * 0.30103:.0f} digits"


_SHORT = _Short()


def shown_value(value: object) -> str:
    """A value for people: as Python writes it, on one line, without the middle of a long one."""
    return visible(_shortened(_SHORT.repr(value), _VALUE))


def plain_text(value: object) -> str:
    """A text that tells plain values of one type apart; Python has no digits of long numbers."""
    return f"{value:#x}" if isinstance(value, int) else repr(value)


def _shortened(text: str, longest: int) -> str:
    half = (longest - len("...")) // 2
    return text if len(text) <= longest else f"{text[:half]}...{text[-half:]}"


def visible(text: str) -> str:
    """A text whose control characters, marks and line breaks are escaped."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _code(letter) for letter in text)


def _escaped(text: str, quote: str) -> str:
    escaped = str.replace(text, "\\", "\\\\").replace(quote, "".join(f"\\{q}" for q in quote))
    return visible(escaped)


def _code(letter: str) -> str:
    return repr(letter)[1:-1]


def _of_toml(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"


def why_no_name(name: str) -> str | None:
    """Why a written file's factory cannot have a name; `None` where it can."""
    if not name.isidentifier():
        return "it is no identifier"
    if (read := unicodedata.normalize("NFKC", name)) != name:
        return f"Python reads it as {shown_value(read)}"
    if keyword.iskeyword(name):
        return "it is a keyword"
    if name.startswith("__") and name.endswith("__"):
        return "names with two underscores around them are Python's own"
    if hasattr(builtins, name):
        return "the written file may need Python's own of that name"
    return None
