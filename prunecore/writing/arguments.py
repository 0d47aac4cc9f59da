"""Constructor arguments of a written class: what differs between its instances, named."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from prunecore.channels.keep import Width
from prunecore.escaping import nearest_name
from prunecore.writing.text import (
    REQUIRED,
    RESERVED,
    Call,
    Name,
    Value,
    free_name,
    one_line,
    same,
)

# Where a value stands: the attribute that it helps to make, and the parameter that it is there.
Role = tuple[str, str]


_BY_CHANCE = 4  # instances, in fewer of which two widths may be equal without a reason
_SHAPING = ("expand", "repeat", "reshape", "tile", "view")  # what a forward gives sizes


@dataclass
class Argument:
    """One constructor argument.

    Attributes:
        values: its value in each instance.
        role: where it stands first.
        roles: all places where it stands.
        default: what it need not be given as, or `REQUIRED`.
        stored: whether the forward reads it, from an attribute of its name.
        is_starred: whether its items are given one by one.
        name: given when all arguments are known.
    """

    values: Sequence[Value]
    role: Role
    default: Value
    stored: bool = False
    is_starred: bool = False
    roles: set[Role] = field(default_factory=set)
    name: str = ""

    @property
    def is_width(self) -> bool:
        """True if it counts channels."""
        return any(isinstance(value, Width) for value in self.values)

    @property
    def is_by_place(self) -> bool:
        """True if it is given by place: a width, or a number as a layer's kernel size."""
        numbers = all(isinstance(value, int | tuple) for value in self.values)
        return self.default is REQUIRED and numbers and not isinstance(self.values[0], bool)

    @property
    def is_inner_width(self) -> bool:
        """True if it is no more than a width, unless the input or output has it.

        A width that stands in one place has the name that it has there, `groups`, if that tells
        what it counts.
        """
        names = {parameter for _, parameter in self.roles}
        tells = len(names) == 1 and not any(map(_is_of_channels, names))
        return self.is_width and not tells

    @property
    def parameter(self) -> str:
        """How it stands in the signature."""
        kinds = {_kind(value) for value in self.values if value is not None}
        kind = kinds.pop() if len(kinds) == 1 else " | ".join(sorted(kinds))
        if self.default is None or any(value is None for value in self.values):
            kind += " | None"
        if self.is_starred:
            return f"*{self.name}: nn.Module"
        if self.default is REQUIRED:
            return f"{self.name}: {kind}"
        return f"{self.name}: {kind} = {one_line(self.default)}"


@dataclass
class Arguments:
    """The arguments of one class; values that are always equal are one argument.

    Attributes:
        entering: the channels that each instance's input carries.
        leaving: the channels that each instance's output carries.
        named: names that are fixed beforehand, by the channels that they count.
    """

    entering: tuple[Hashable, ...]
    leaving: tuple[Hashable, ...]
    named: Mapping[Hashable, str] = field(default_factory=dict)
    _by_key: dict[Hashable, Argument] = field(default_factory=dict)
    _modules: int = 0  # how many of the values so far hold modules

    def begin(self) -> None:
        """Go through the values from the first one on."""
        self._modules = 0

    def lift(self, values: Sequence[Value], role: Role, stored: bool, default: Value) -> Name:
        """The argument that these values are.

        Args:
            values: one an instance.
            role: where they stand.
            stored: whether they stand in the forward, not in the constructor.
            default: the value that need not be written, or `REQUIRED`.
        """
        kinds = tuple(
            value.channels if isinstance(value, Width) else one_line(value) for value in values
        )
        is_width = any(isinstance(value, Width) for value in values)
        what = "" if role[1].isdigit() else role[1] or role[0]
        key: Hashable = kinds if is_width else (what, kinds)
        if any(map(_holds_modules, values)):  # which are two, however alike they are written
            self._modules += 1
            key = key, self._modules
        if is_width:
            key = self._equal(key, values)
        if key not in self._by_key:
            self._by_key[key] = Argument(values, role, default)
        argument = self._by_key[key]
        argument.stored |= stored
        argument.roles.add(role)
        return Name(f"self.{argument.name}" if stored else argument.name)

    def _equal(self, key: Hashable, values: Sequence[Value]) -> Hashable:
        """The key of inner widths that are always these: heads, say, that two layers count."""
        if self._end(key) or len(values) < _BY_CHANCE or len(set(values)) < 2:
            return key
        known = (
            other
            for other, argument in self._by_key.items()
            if argument.is_inner_width and not self._end(other) and argument.values == values
        )
        return key if key in self._by_key else next(known, key)

    def name_all(self, attributes: Set[str] = frozenset()) -> None:
        """Give every argument its name and its place in the signature.

        Args:
            attributes: what the class has by other names; no argument is stored as one of these.
        """
        inner = [
            argument
            for key, argument in self._by_key.items()
            if argument.is_inner_width and self._end(key) is None
        ]
        self._by_key = dict(sorted(self._by_key.items(), key=lambda item: self._place(*item)))
        wanted = [
            _identifier(self._wanted(key, argument, alone=len(inner) == 1))
            for key, argument in self._by_key.items()
        ]
        taken = {"self", *RESERVED}
        for name, argument in zip(wanted, self, strict=True):
            used = taken | attributes if argument.stored else taken
            if argument.is_width and wanted.count(name) > 1:
                argument.name = free_name(f"{name}1", used, name)
            elif name in used:
                longer = name if argument.is_width else _identifier("_".join(argument.role))
                argument.name = free_name(longer, used)
            else:
                argument.name = name
            taken.add(argument.name)

        if len(self._by_key) == 1:
            (only,) = self
            only.is_starred = all(map(_are_layers, only.values))

    def __iter__(self) -> Iterator[Argument]:
        return iter(self._by_key.values())

    def calls(self, function: str, instances: int) -> list[Call]:
        """The constructor call of each instance; numbers by place, what has a default by name."""
        if len(self._by_key) == 1:
            (only,) = self
            if only.is_starred:
                return [Call(function, tuple(only.values[i])) for i in range(instances)]
        by_place = [a for a in self if a.is_by_place]
        by_name = [a for a in self if not a.is_by_place]
        defaults = {a.name: a.default for a in by_name if a.default is not REQUIRED}
        names = tuple(argument.name for argument in by_place)
        return [
            Call(
                function,
                tuple(argument.values[instance] for argument in by_place),
                {argument.name: argument.values[instance] for argument in by_name},
                defaults,
                names,
            )
            for instance in range(instances)
        ]

    def _wanted(self, key: Hashable, argument: Argument, alone: bool) -> str:
        first = argument.values[0]
        if isinstance(first, Width) and first.channels in self.named:
            return self.named[first.channels]
        attribute, parameter = argument.role
        if argument.is_width and (end := self._end(key)):
            return end
        if argument.is_inner_width:
            width = parameter if parameter.endswith("_width") else f"{attribute}_width"
            return "width" if alone else width
        if parameter.isdigit():
            if attribute in _SHAPING:
                return "size"
            is_of_tensor = len(argument.roles) > 1 and not argument.stored
            return f"{attribute}_size" if is_of_tensor else attribute
        return parameter or attribute

    def _end(self, key: Hashable) -> str | None:
        """The name of an argument that counts the channels of the input or the output."""
        if self.entering == self.leaving == key:
            return "channels"
        ends: dict[Hashable, str] = {self.entering: "in_channels", self.leaving: "out_channels"}
        return ends.get(key)

    def _place(self, key: Hashable, argument: Argument) -> int:
        if argument.default is not REQUIRED:
            return 5
        if not argument.is_width:
            return 3 if argument.is_by_place else 4
        return {"in_channels": 0, "channels": 0, "out_channels": 2}.get(self._end(key) or "", 1)


def alike(values: Sequence[Value]) -> bool:
    """True if these are calls that differ in nothing but argument values."""
    first = values[0]
    return all(
        isinstance(value, Call)
        and value.function == first.function
        and len(value.positional) == len(first.positional)
        and list(value.keywords) == list(first.keywords)
        for value in values
    )


def equal(values: Sequence[Value]) -> bool:
    """True if these values are written alike."""
    return all(same(values[0], value) for value in values)


def kind_of_layer(values: Sequence[Value]) -> str:
    """What layers have in common, as torch sorts its classes: `activation`, `pooling`."""
    names = [value.function.removeprefix("nn.") for value in values if isinstance(value, Call)]
    modules = [getattr(getattr(nn, name, None), "__module__", "") for name in names]
    kinds = {module.rpartition(".")[2] for module in modules}
    return kinds.pop() if len(kinds) == 1 and "" not in kinds else "layer"


def _is_of_channels(parameter: str) -> bool:
    return not parameter.isidentifier() or parameter.endswith(("channels", "features", "width"))


def _identifier(text: str) -> str:
    return nearest_name(text.strip("_"), "arg")


def _holds_modules(value: Value) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_modules, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_holds_modules, value))
    return isinstance(value, Call)


def _are_layers(value: Value) -> bool:
    return isinstance(value, list) and all(isinstance(item, Call) for item in value)


def _kind(value: Value) -> str:
    if isinstance(value, Call):
        return "nn.Module"
    if isinstance(value, tuple):
        kinds = {_kind(item) for item in value}
        return f"tuple[{kinds.pop()}, ...]" if len(kinds) == 1 else "tuple"
    if isinstance(value, list | dict) and value:
        kinds = {_kind(item) for item in (value.values() if isinstance(value, dict) else value)}
        kind = " | ".join(sorted(kinds))
        return f"dict[str, {kind}]" if isinstance(value, dict) else f"list[{kind}]"
    if isinstance(value, Name):
        value = _named(value.text)
        if value is None:
            return "Any"
    if isinstance(value, type) and issubclass(value, nn.Module):
        return "type[nn.Module]"
    return type(value).__name__ if isinstance(value, list | dict) else kind_of(value)


def _named(text: str) -> Any:
    """What a name or expression stands for; `None` for a plugin's own."""
    if text.startswith("float("):
        return math.inf
    first, *rest = text.split(".")
    value: Any = {"torch": torch, "nn": nn, "F": F, "math": math}.get(first)
    for name in rest:
        value = getattr(value, name, None)
    return value


def kind_of(value: object) -> str:
    """The annotation of a value that is written: a type of Python's or torch's own, else `Any`."""
    for kind, text in _KINDS.items():
        if isinstance(value, kind):
            return text
    return "None" if value is None else "Any"


_KINDS: Mapping[type, str] = {
    **{kind: kind.__name__ for kind in (bool, int, float, complex, str, bytes)},
    **{kind: f"torch.{kind.__name__}" for kind in (torch.dtype, torch.device)},
}
