"""What a traced forward sees as `self.training`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

TRAINING = "training"  # stands for all that only training does, where modules are named


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
