"""Numbers that a module holds, which its traced forward knows by their names: `self.eps`."""

from __future__ import annotations

import keyword
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from prunecore.tracing.source_lines import is_called_by_torch


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


class DeviceKind(str):
    """What a traced forward sees as `x.device.type`.

    It may be handed on to `torch.autocast`, and compared with "meta": no tensor that a network is
    used with is there.
    """

    def __eq__(self, other: object) -> bool:
        """Whether it is this kind.

        Raises:
            TypeError: the forward does one thing on some devices, and another on others.
        """
        if other != "meta" and not is_called_by_torch():
            raise TypeError(f"where it runs on {other!r} it may do something else")
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        """Whether it is another kind; torch's own code may ask for any, as for equality."""
        return str.__ne__(self, other) if is_called_by_torch() else not self == other

    __hash__ = str.__hash__


def contexts() -> tuple[bool, ...]:
    """What a forward computes under, which is no part of its trace: gradients and autocast."""
    kinds = ("cpu", "cuda")
    return torch.is_grad_enabled(), *(torch.is_autocast_enabled(kind) for kind in kinds)


class Training(int):
    """The value that a traced forward sees as `self.training`.

    It tells when the forward did more with it than to hand it on, as an `if` does.

    Attributes:
        is_read: whether it did.
    """

    is_read = False


def _telling(name: str) -> Callable[..., Any]:
    """A method of int that notes that the value was read."""
    plain = getattr(int, name)

    def method(self: Training, *others: Any) -> Any:
        self.is_read = True
        return plain(self, *others)

    return method


_READING = """
    bool eq ne lt le gt ge int float index invert neg
    add radd sub rsub mul rmul truediv rtruediv and rand or ror xor rxor pow rpow
"""


for _name in _READING.split():
    setattr(Training, f"__{_name}__", _telling(f"__{_name}__"))


Training.__hash__ = int.__hash__  # type: ignore[method-assign]
