"""How each value of a job is read and checked, from a flag and from a configuration alike."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from prunecore.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from prunecore.planning.plan import Target


TARGETS: tuple[Target, ...] = ("params", "macs", "channels")


def read_level(value: object) -> float:
    """A percentage, above 0 and below 100."""
    try:
        level = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        level = 0.0
    if isinstance(value, bool) or not 0 < level < 100:
        raise UsageError(f"a level is a percentage above 0 and below 100, not {value!r}.")
    return level


def read_levels(value: object) -> tuple[float, ...]:
    """One level, a list of them, or text with commas between them; each once."""
    levels = tuple(dict.fromkeys(read_level(item) for item in _items(value)))
    if not levels:
        raise UsageError("there is no level in the list; give for instance [30, 50].")
    return levels


def read_shape(value: object) -> tuple[int, ...]:
    """The shape of one input, without the batch: `3,224,224` or a list of numbers."""
    texts = [str(item).strip() for item in _items(value)]
    sizes = [int(text) if text.isdecimal() else 0 for text in texts]
    if not sizes or min(sizes) < 1:
        raise UsageError(
            "an input shape is whole numbers above 0, such as 3,224,224 "
            f"(without the batch), not {value!r}."
        )
    return tuple(sizes)


def read_shapes(value: object) -> tuple[tuple[int, ...], ...]:
    """The shape of each input: one shape, or a list of them."""
    if isinstance(value, list | tuple) and any(isinstance(x, str | list | tuple) for x in value):
        return tuple(map(read_shape, value))
    return (read_shape(value),)


def read_modules(value: object) -> tuple[str, ...]:
    """The paths of modules: one, a list of them, or text with commas between them."""
    return tuple(dict.fromkeys(read_text(item) for item in _items(value)))


def read_seed(value: object) -> int:
    """A whole number that every random generator takes."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise UsageError(f"a seed is a whole number from 0 to 2**63 - 1, not {value!r}.")
    return value


def read_count(value: object) -> int:
    """How many networks to write, 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"a count is a whole number above 0, not {value!r}.")
    return value


def read_switch(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise UsageError(f"it is either true or false, not {value!r}.")
    return value


def read_target(value: object) -> Target:
    """What levels are percentages of."""
    for target in TARGETS:
        if value == target:
            return target
    raise unknown_name("target", str(value), TARGETS)


def read_net_name(value: object) -> str:
    """A name that the written file can be imported by, and its factory called by."""
    name = read_text(value)
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UsageError(
            f"a network's name is a Python name (letters, digits, underscores), not {name!r}."
        )
    return name


def read_arguments(value: object) -> dict[str, Any]:
    """What a factory is called with, by name."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise UsageError(f"arguments are names with values, {{num_classes: 10}}, not {value!r}.")
    return dict(value)


def read_argument(text: str) -> tuple[str, Any]:
    """`NAME=VALUE`, the value as YAML reads it."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise UsageError(f"an argument is NAME=VALUE, such as num_classes=10, not {text!r}.")
    return name, read_yaml(value)


def read_text(value: object) -> str:
    """Text, not a number that looks like a name."""
    if not isinstance(value, str):
        raise UsageError(f"text belongs here, not {value!r} (quote it if it is a name).")
    return value


def read_path(value: object) -> Path:
    """A path."""
    return Path(read_text(value))


def read_folder_name(value: object) -> str:
    """The name of one folder, which cannot lead elsewhere on any system."""
    name = read_text(value)
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    plain = posix.parts == windows.parts == (name,) and not windows.drive
    if not plain or name == ".." or not name.isprintable():
        raise UsageError(f"it must be a plain folder name inside model_path, not {name!r}.")
    return name


def _items(value: object) -> list[object]:
    if isinstance(value, str):
        return list(value.split(","))
    return list(value) if isinstance(value, list | tuple) else [value]


def read_yaml(text: str) -> Any:
    """Plain values in YAML; nothing in them is run."""
    import yaml  # not above: it takes a fifth of the time in which --help is to answer

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        where = f" in line {mark.line + 1}" if mark else ""
        raise UsageError(f"this is not YAML: {problem}{where}.") from error
