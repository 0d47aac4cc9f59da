"""Values of a job, read and checked from a flag and from a configuration alike."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, TypeVar

from prunecore.criteria.scoring import (
    NORMALIZATIONS,
    PARTS,
    REDUCTIONS,
    Normalization,
    Part,
    Reduction,
)
from prunecore.errors import UsageError, unknown_name
from prunecore.escaping import shown_value, why_no_name
from prunecore.files.paths import check_path
from prunecore.planning.goal import TARGETS, Goal, Target, read_goal
from prunecore.planning.request import (
    KEEP,
    NO_RECOVERY,
    RECOVERY_STEPS,
    SCOPES,
    LayerLimits,
    Scope,
    check_count,
    check_layers,
    check_max_level,
    check_steps,
)

if TYPE_CHECKING:
    from prunecore.inputs import Inputs

Known = TypeVar("Known", bound=str)

# Python would take more for a number: the digits of other scripts, and underscores among them.
_WHOLE = re.compile(r"\+?[0-9]{1,18}")


_DECIMAL = re.compile(r"[-+]?([0-9]{1,18}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][-+]?[0-9]{1,3})?")


MOST_SETS = 10_000  # of a job; as many of a small network take a day, and fill a disk


MOST_IMAGES = 1_000_000  # for calibration


def read_level(value: object) -> float:
    """A percentage, above 0 and below 100."""
    level = _number(value)
    if level is None or not 0 < level < 100:
        raise UsageError(
            f"a level is a percentage above 0 and below 100, not {shown_value(value)}."
        )
    return float(level)


def read_levels(value: object) -> tuple[float, ...]:
    """One level, a list of them, or text with commas between them; each once."""
    levels = tuple(dict.fromkeys(read_level(item) for item in _items(value)))
    if not levels:
        raise UsageError("there is no level in the list; give for instance [30, 50].")
    return levels


def read_goals(value: object) -> tuple[Goal, ...]:
    """What is to be left: one goal, a list of them, or text with commas between them; each once."""
    goals = tuple(dict.fromkeys(read_goal(item) for item in _items(value)))
    if not goals:
        raise UsageError("there is no goal in the list; give for instance [5M-params, 1G-macs].")
    return goals


def read_shape(value: object) -> tuple[int, ...]:
    """The shape of one input, without the batch: `3,224,224` or a list of numbers."""
    sizes = [_number(item) for item in _items(value)]
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise UsageError(
            "an input shape is whole numbers above 0, such as 3,224,224 "
            f"(without the batch), not {shown_value(value)}."
        )
    return tuple(map(int, sizes))  # type: ignore[arg-type]


def read_shapes(value: object) -> tuple[tuple[int, ...], ...]:
    """The shape of each input: one shape, or a list of them."""
    if isinstance(value, list | tuple) and any(isinstance(x, str | list | tuple) for x in value):
        return tuple(map(read_shape, value))
    return (read_shape(value),)


# What an input is called, and what it is like or its value.
_NAMED = re.compile(r"\s*([^\W\d]\w*)\s*([:=])(.*)", re.DOTALL)


def read_inputs(value: object) -> Inputs:
    """What a network is called with, each with its type and sizes, or its value.

    Args:
        value: by name, `{tokens: 'int64[128]<30000', scale: 2.0}`; or one text or a list of them,
            `tokens:int64[128]<30000` and `scale=2.0`, by place where there is no name.
    """
    from prunecore.inputs import Inputs  # which needs torch

    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    if isinstance(value, Mapping):
        kwargs = {_input_name(name): _read_input(given) for name, given in value.items()}
        value = []
    for item in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(item, str) or not (found := _NAMED.fullmatch(item)):
            args.append(_read_input(item))
            continue
        name, sign, rest = found.groups()
        if name in kwargs:
            raise UsageError(f"the input {shown_value(name)} is given twice.")
        kwargs[name] = _input_value(item, rest) if sign == "=" else _read_input(rest)
    if not (args or kwargs):
        raise UsageError("there is no input in the list; give for instance int64[128]<30000.")
    return Inputs(tuple(args), kwargs)


def _input_name(name: object) -> str:
    if not isinstance(name, str) or not name.isidentifier():
        raise UsageError(f"{shown_value(name)} cannot be the name of an input.")
    return name


def _read_input(value: object) -> Any:
    """A tensor's type and sizes, the sizes of one of floating point, or a value."""
    from prunecore.typed_input import TypedInput, read_typed_input

    if isinstance(value, str):
        return read_typed_input(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    return TypedInput(read_shape(value))


def _input_value(text: str, value: str) -> Any:
    """A number, flag or word that a network is called with."""
    read = read_yaml(value)
    is_finite = not isinstance(read, float) or math.isfinite(read)
    if not is_finite or not isinstance(read, bool | int | float | str | None):
        raise UsageError(
            "an input that is no tensor is NAME=VALUE, a number, true, false, null or a word, such "
            f"as scale=2.0, not {shown_value(text)}."
        )
    return read


def check_inputs(input_shape: object, inputs: object) -> None:
    """Refuse inputs that are given by their shapes and by their types.

    Raises:
        UsageError: they are.
    """
    if input_shape is not None and inputs is not None:
        raise UsageError(
            "Both an input shape and inputs are given (--input-shape, --input).\n"
            "Give one of the two; float[3,224,224] is an input of floating point numbers."
        )


def read_modules(value: object) -> tuple[str, ...]:
    """The paths of modules: one, a list of them, or text with commas between them."""
    return tuple(dict.fromkeys(read_text(item) for item in _items(value)))


def read_seed(value: object) -> int:
    """A whole number that every random generator takes."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise UsageError(f"a seed is a whole number from 0 to 2**63 - 1, not {shown_value(value)}.")
    return value


def read_count(value: object) -> int:
    """How many networks to write, from 1 to `MOST_SETS`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_SETS:
        raise UsageError(
            f"a count is a whole number from 1 to {MOST_SETS:,}, not {shown_value(value)}."
        )
    return value


def read_step_count(value: object) -> int:
    """In how many steps a level is reached."""
    return check_steps(value)


def read_images(value: object) -> str:
    """Where calibration images come from: a folder, or `package.module:function`."""
    text = read_text(value)
    check_path(Path(text))
    return text


def read_image_count(value: object) -> int:
    """How many calibration images are taken."""
    number = _number(value)
    if not isinstance(number, int) or not 2 <= number <= MOST_IMAGES:
        raise UsageError(
            f"a number of images is a whole number from 2 to {MOST_IMAGES:,}, not "
            f"{shown_value(value)}."
        )
    return number


def read_size(value: object) -> tuple[int, int]:
    """Height and width of images: `224`, or two numbers."""
    sizes = read_shape(value)
    if len(sizes) > 2:
        raise UsageError(f"a size is a height and a width, not {shown_value(value)}.")
    return sizes[0], sizes[-1]


def read_numbers(value: object) -> tuple[float, ...]:
    """Numbers, one for each channel of an image."""
    numbers = tuple(_number(item) for item in _items(value))
    found = tuple(float(number) for number in numbers if number is not None)
    if len(found) != len(numbers) or not found or not all(map(math.isfinite, found)):
        raise UsageError(
            f"numbers belong here, one for each channel, such as 0.5, 0.5, 0.5, not "
            f"{shown_value(value)}."
        )
    return found


def read_steps(value: object) -> tuple[str, ...]:
    """The steps that give the accuracy back, in order; `none` for none."""
    names = [read_text(item).strip() for item in _items(value)]
    if names == [NO_RECOVERY]:
        return ()
    if NO_RECOVERY in names:
        raise UsageError("none stands beside other steps; give the one or the others.")
    return tuple(_known("step", name, (*RECOVERY_STEPS, NO_RECOVERY)) for name in names)


def read_switch(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise UsageError(f"it is either true or false, not {shown_value(value)}.")
    return value


def read_target(value: object) -> Target:
    """What levels are percentages of."""
    return _known("target", value, TARGETS)


def read_members(value: object) -> tuple[Part, ...]:
    """What of a channel counts: one part, a list of them, or text with commas between them."""
    return tuple(dict.fromkeys(_known("member", item, PARTS) for item in _items(value)))


def read_reduction(value: object) -> Reduction:
    """How the values of a channel's members become one."""
    return _known("reduction", value, REDUCTIONS)


def read_normalization(value: object) -> Normalization:
    """How the scores of groups compare."""
    return _known("normalization", value, NORMALIZATIONS)


def _known(kind: str, value: object, names: tuple[Known, ...]) -> Known:
    for name in names:
        if value == name:
            return name
    raise unknown_name(kind, read_text(value), names)


def read_scope(value: object) -> Scope:
    """Which channels are ranked together."""
    for scope in SCOPES:
        if value == scope:
            return scope
    raise unknown_name("scope", read_text(value), SCOPES)


def read_min_channels(value: object) -> int:
    """How many channels every layer keeps."""
    return check_count("min_channels", value, "how many channels every layer keeps, as 2")


def read_round_to(value: object) -> int:
    """What widths are to be multiples of."""
    return check_count("round_to", value, "what widths are to be multiples of, as 8")


def read_max_level(value: object) -> float:
    """How many percent of a layer's channels may go."""
    number = _number(value)
    return check_max_level("max_level", value if number is None else number)


def read_layers(value: object) -> dict[str, LayerLimits]:
    """Limits of single layers, by patterns of their paths."""
    return check_layers(value)


def read_limits(texts: Sequence[str]) -> dict[str, LayerLimits]:
    """`GLOB=keep` or `GLOB=30%`, each once."""
    limits: dict[str, LayerLimits] = {}
    for text in texts:
        pattern, equals, what = text.rpartition("=")
        percent = _number(what.removesuffix("%")) if what.endswith("%") else None
        if not equals or not pattern or (what != KEEP and percent is None):
            raise UsageError(
                "a limit is GLOB=keep, or GLOB=30% for how much of a layer may go, such as "
                f"layer4.*=30%, not {shown_value(text)}."
            )
        given: LayerLimits = KEEP if percent is None else {"max_level": percent}
        if limits.setdefault(pattern, given) != given:
            raise UsageError(f"{shown_value(pattern)} is given two limits; give one.")
    return check_layers(limits)


def read_net_name(value: object) -> str:
    """A name that the written file can be imported by, and its factory called by."""
    name = read_text(value)
    wrong = why_no_name(name)
    if wrong:
        raise UsageError(
            "a network's name is a Python name (letters, digits, underscores), "
            f"not {shown_value(name)}: {wrong}."
        )
    return name


def read_arguments(value: object) -> dict[str, Any]:
    """What a factory is called with, by name."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise UsageError(
            f"arguments are names with values, {{num_classes: 10}}, not {shown_value(value)}."
        )
    return dict(value)


def read_argument(text: str) -> tuple[str, Any]:
    """`NAME=VALUE`, the value as YAML reads it."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise UsageError(
            f"an argument is NAME=VALUE, such as num_classes=10, not {shown_value(text)}."
        )
    return name, read_yaml(value)


def read_text(value: object) -> str:
    """Text, not a number that looks like a name."""
    if not isinstance(value, str):
        raise UsageError(f"text belongs here, not {shown_value(value)} (quote it if it is a name).")
    return value


def read_path(value: object) -> Path:
    """A path."""
    return check_path(Path(read_text(value)))


def read_folder_name(value: object) -> str:
    """The name of one folder, which cannot lead elsewhere on any system."""
    name = read_text(value)
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    plain = posix.parts == windows.parts == (name,) and not windows.drive
    if not plain or name == ".." or not name.isprintable():
        raise UsageError(
            f"it must be a plain folder name inside model_path, not {shown_value(name)}."
        )
    return name


def _items(value: object) -> list[object]:
    if isinstance(value, str):
        return list(value.split(","))
    return list(value) if isinstance(value, list | tuple) else [value]


def _number(value: object) -> int | float | None:
    """A number, or the one that a text spells in plain digits; `None` where it is neither."""
    if isinstance(value, str):
        text = value.strip()
        if _WHOLE.fullmatch(text):
            return int(text)
        return float(text) if _DECIMAL.fullmatch(text) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def read_yaml(text: str) -> Any:
    """Plain values in YAML; nothing in them is run."""
    from prunecore.files import plain_yaml

    return plain_yaml.read(text)
