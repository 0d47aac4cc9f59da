"""The constructor of a class that derives from a container of modules."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence

from torch import nn

from prunecore.source import Call, Value

_KINDS = {nn.ModuleDict: "nn.ModuleDict", nn.ModuleList: "nn.ModuleList"}
_KINDS |= {nn.Sequential: "nn.Sequential"}


def container_of(module: nn.Module) -> str | None:
    """The container of torch's that a module is, `nn.ModuleList`; `None` for any other module."""
    return next((name for kind, name in _KINDS.items() if isinstance(module, kind)), None)


def in_places(base: str, children: Mapping[str, Value]) -> dict[str, Value]:
    """The children of a container; in a list, something stands in the place of one left out."""
    if base == "nn.ModuleDict" or not all(map(str.isdecimal, children)):
        return dict(children)
    last = max(map(int, children), default=-1)
    numbers = map(str, range(last + 1))
    return {number: children.get(number, Call("nn.Identity")) for number in numbers}


def initialise(base: str, children: Mapping[str, Value]) -> Call:
    """The call of a container's constructor with these children.

    Args:
        base: the container.
        children: by key.
    """
    values = tuple(children.values())
    if base == "nn.ModuleDict":
        given: tuple[Value, ...] = (dict(children),)
    elif base == "nn.ModuleList":
        given = (list(values),)
    elif list(children) == [str(number) for number in range(len(children))]:
        given = values
    elif all(key.isidentifier() and not keyword.iskeyword(key) for key in children):
        given = (Call("OrderedDict", keywords=children),)
    else:
        given = (Call("OrderedDict", (dict(children),)),)
    return Call("super().__init__", given)


def numbered(base: str, keys: Sequence[Sequence[str]]) -> str | None:
    """What a container's constructor is given, with `{}` for the argument that holds its layers.

    Args:
        base: the container.
        keys: of each instance's children.

    Returns:
        The expression; `None` if the keys are neither those of a list nor a word and a number.
    """
    first = next((own[0] for own in keys if own), "")
    match = re.fullmatch(r"(\D*)(\d+)", first)
    if match is None:
        return None
    prefix, start = match[1], int(match[2])
    for own in keys:
        if list(own) != [f"{prefix}{number}" for number in range(start, start + len(own))]:
            return None
    if base == "nn.ModuleDict":
        key = f'f"{prefix}{{{{number}}}}"' if prefix else "str(number)"
        begin = f", {start}" if start else ""
        return f"{{{{{key}: layer for number, layer in enumerate({{}}{begin})}}}}"
    if prefix or start:
        return None
    return "*{}" if base == "nn.Sequential" else "{}"
