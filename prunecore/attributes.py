"""Numbers that a module holds, which its traced forward knows by their names: `self.eps`."""

from __future__ import annotations

import keyword
from typing import Any

from torch import nn


class HeldInt(int):
    """A whole number that a forward reads off its module.

    Attributes:
        attribute: its name there.
    """

    attribute: str


class HeldFloat(float):
    """A number that a forward reads off its module.

    Attributes:
        attribute: its name there.
    """

    attribute: str


def held_numbers(module: nn.Module) -> dict[str, Any]:
    """The numbers that a module holds as attributes of its own, each knowing its name."""
    found = {}
    for name, value in vars(module).items():
        kind = {int: HeldInt, float: HeldFloat}.get(type(value))
        if kind is not None and name.isidentifier() and not keyword.iskeyword(name):
            found[name] = kind(value)
            found[name].attribute = name
    return found
