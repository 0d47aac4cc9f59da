"""What a traced forward reads off its module: a copy that knows its numbers by name, `self.eps`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from prunecore.channels.names import named_plain_tensors
from prunecore.escaping import is_name
from prunecore.tracing.source_lines import is_called_by_torch


def shadow(module: nn.Module) -> nn.Module:
    """A shallow copy of a module, with registries of its own."""
    copied = copy.copy(module)
    for registry in ("_modules", "_parameters", "_buffers"):
        vars(copied)[registry] = dict(getattr(module, registry))
    return copied


def without_storage(module: nn.Module, in_training: bool) -> nn.Module:
    """A module without storage for its tensors, to be called for its shapes alone.

    The module itself keeps its own at all times, as other threads may be using it.

    Args:
        module: the module; it and those within are called in one mode, whatever theirs are.
        in_training: whether it is that of training.
    """
    copies = {one: shadow(one) for one in module.modules()}
    stored = [*module.parameters(), *module.buffers()]
    stored += [tensor for _, tensor in named_plain_tensors(module)]
    tensors = {id(x): meta(x) for x in stored}
    for one, copied in copies.items():
        copied.training = in_training
        for name, value in vars(one).items():
            if type(value) is Tensor:
                vars(copied)[name] = tensors[id(value)]
            if isinstance(value, MethodType) and value.__self__ is one:  # one of several forwards
                vars(copied)[name] = MethodType(value.__func__, copied)
        for name, child in one._modules.items():
            copied._modules[name] = None if child is None else copies[child]
        for registry in ("_parameters", "_buffers"):
            stored = vars(copied)[registry].items()
            vars(copied)[registry] = {
                name: None if x is None else tensors[id(x)] for name, x in stored
            }
    return copies[module]


def meta(tensor: Tensor) -> Tensor:
    """A stored tensor's shape, in the type that the walk's tensors have."""
    return tensor.to("meta", torch.float32 if tensor.is_floating_point() else tensor.dtype)


def options_of(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """What a module holds as attributes beside what every module does."""
    return ((name, value) for name, value in vars(module).items() if name not in _OF_EACH)


_OF_EACH = frozenset(vars(nn.Module()))


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
        if kind is not None and is_name(name):
            found[name] = kind(value)
            found[name].attribute = name
    return found


class DeviceType(str):
    """What a traced forward sees as `x.device.type`.

    It may be handed on to `torch.autocast`, and compared with "meta": no tensor that a network is
    used with is there.
    """

    def __eq__(self, other: object) -> bool:
        """True if it is this kind.

        Raises:
            TypeError: the forward does one thing on some devices, and another on others.
        """
        if other != "meta" and not is_called_by_torch():
            raise TypeError(f"where it runs on {other!r} it may do something else")
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        """True if it is another kind; torch's own code may ask for any, as for equality."""
        return str.__ne__(self, other) if is_called_by_torch() else not self == other

    __hash__ = str.__hash__


class TrainingFlag(int):
    """The value that a traced forward sees as `self.training`.

    It tells when the forward did more with it than to hand it on, as an `if` does.

    Attributes:
        is_read: whether it did.
    """

    is_read = False


def _telling(name: str) -> Callable[..., Any]:
    """A method of int that notes that the value was read."""
    plain = getattr(int, name)

    def method(self: TrainingFlag, *others: Any) -> Any:
        self.is_read = True
        return plain(self, *others)

    return method


_READING = """
    bool eq ne lt le gt ge int float index invert neg
    add radd sub rsub mul rmul truediv rtruediv and rand or ror xor rxor pow rpow
"""


for _name in _READING.split():
    setattr(TrainingFlag, f"__{_name}__", _telling(f"__{_name}__"))


TrainingFlag.__hash__ = int.__hash__  # type: ignore[method-assign]
