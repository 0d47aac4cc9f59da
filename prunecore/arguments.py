"""Constructor arguments of a written class: what differs between its instances, named."""

from __future__ import annotations

import keyword
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prunecore.keep import Width
from prunecore.source import REQUIRED, Call, Name, Value, one_line, same

# Where a value stands: the attribute that it helps to make, and the parameter that it is there.
Role = tuple[str, str]


@dataclass
class Argument:
    """One constructor argument.

    Attributes:
        values: its value in each instance.
        role: where it stands first.
        default: what it need not be given as, or `REQUIRED`.
        stored: whether the forward reads it, from an attribute of its name.
        name: given when all arguments are known.
    """

    values: Sequence[Value]
    role: Role
    default: Value
    stored: bool = False
    name: str = ""

    @property
    def is_width(self) -> bool:
        """Whether it counts channels."""
        return any(isinstance(value, Width) for value in self.values)

    @property
    def parameter(self) -> str:
        """How it stands in the signature."""
        kinds = {_kind(value) for value in self.values if value is not None}
        kind = kinds.pop() if len(kinds) == 1 else " | ".join(sorted(kinds))
        if any(value is None for value in self.values):
            kind += " | None"
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
        key = kinds if is_width else (role[1] or role[0], kinds)
        argument = self._by_key.setdefault(key, Argument(values, role, default))
        argument.stored |= stored
        return Name(f"self.{argument.name}" if stored else argument.name)

    def name_all(self) -> None:
        """Give every argument its name and its place in the signature."""
        inner = [
            argument
            for key, argument in self._by_key.items()
            if argument.is_width and self._end(key) is None
        ]
        self._by_key = dict(sorted(self._by_key.items(), key=lambda item: self._place(*item)))
        taken = {"self"}
        for key, argument in self._by_key.items():
            wanted = _identifier(self._wanted(key, argument, alone=len(inner) == 1))
            if wanted in taken and not argument.is_width:
                wanted = _identifier("_".join(argument.role))
            argument.name = free_name(wanted, taken)
            taken.add(argument.name)

    def __iter__(self) -> Iterator[Argument]:
        return iter(self._by_key.values())

    def call(self, function: str, instance: int) -> Call:
        """The constructor call of one instance; widths by place, what has a default by name."""
        by_place = [a for a in self if a.default is REQUIRED and a.is_width]
        by_name = [a for a in self if not (a.default is REQUIRED and a.is_width)]
        return Call(
            function,
            tuple(argument.values[instance] for argument in by_place),
            {argument.name: argument.values[instance] for argument in by_name},
            {a.name: a.default for a in by_name if a.default is not REQUIRED},
            tuple(argument.name for argument in by_place),
        )

    def _wanted(self, key: Hashable, argument: Argument, alone: bool) -> str:
        first = argument.values[0]
        if isinstance(first, Width) and first.channels in self.named:
            return self.named[first.channels]
        attribute, parameter = argument.role
        if argument.is_width:
            return self._end(key) or ("width" if alone else f"{attribute}_width")
        return parameter if parameter and not parameter.isdigit() else attribute

    def _end(self, key: Hashable) -> str | None:
        """The name of an argument that counts the channels of the input or the output."""
        if self.entering == self.leaving == key:
            return "channels"
        ends: dict[Hashable, str] = {self.entering: "in_channels", self.leaving: "out_channels"}
        return ends.get(key)

    def _place(self, key: Hashable, argument: Argument) -> int:
        if argument.default is not REQUIRED:
            return 4
        if not argument.is_width:
            return 3
        return {"in_channels": 0, "channels": 0, "out_channels": 2}.get(self._end(key) or "", 1)


def free_name(name: str, taken: set[str]) -> str:
    """The name, numbered where it is taken."""
    number = 2
    free = name
    while free in taken:
        free, number = f"{name}{number}", number + 1
    return free


def alike(values: Sequence[Value]) -> bool:
    """Whether these are calls that differ in nothing but argument values."""
    first = values[0]
    return all(
        isinstance(value, Call)
        and value.function == first.function
        and len(value.positional) == len(first.positional)
        and list(value.keywords) == list(first.keywords)
        for value in values
    )


def equal(values: Sequence[Value]) -> bool:
    """Whether these values are written alike."""
    return all(same(values[0], value) for value in values)


def _identifier(text: str) -> str:
    name = "".join(letter if letter.isalnum() else "_" for letter in text).strip("_")
    return f"arg_{name}" if not name.isidentifier() or keyword.iskeyword(name) else name


def _kind(value: Value) -> str:
    if isinstance(value, Call):
        return "nn.Module"
    if isinstance(value, tuple):
        kinds = {_kind(item) for item in value}
        return f"tuple[{kinds.pop()}, ...]" if len(kinds) == 1 else "tuple"
    if isinstance(value, list):
        return f"list[{_kind(value[0])}]" if value else "list"
    if isinstance(value, Width):
        return "int"
    return type(value).__name__
