"""Classes for traced modules, each written once for all of its instances."""

from __future__ import annotations

import graphlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from prunecore.arguments import Arguments, Role, alike, equal, free_name
from prunecore.forward import Forward
from prunecore.keep import Width
from prunecore.source import INDENT, REQUIRED, Call, Name, Value, signature
from prunecore.statements import (
    AnyStatement,
    Statement,
    values_of,
    with_values,
    write_statements,
)


@dataclass(frozen=True, eq=False)
class Instance:
    """A module that is written as a class of its own; stands for its constructor call.

    Attributes:
        class_name: the original class's name.
        fields: the statements of its constructor.
        forward: its forward; `None` for a module that only holds others.
        entering: the channels that its input carries.
        leaving: the channels that its output carries.
        base: what it derives from; its constructor is called among the fields if not `nn.Module`.
    """

    class_name: str
    fields: tuple[Statement, ...]
    forward: Forward | None
    entering: Hashable
    leaving: Hashable
    base: str = "nn.Module"


def define_classes(
    root: Instance, taken: set[str], named: Mapping[Hashable, str]
) -> tuple[dict[str, str], Call]:
    """Define the classes of a network: of every `Instance` within it, and its own.

    Args:
        root: the network.
        taken: names that the file has already.
        named: names of the network's own constructor arguments, by the channels that they count.

    Returns:
        The classes' texts by name, each after those that it uses, and the network's call.
    """
    texts: dict[str, str] = {}
    calls: dict[int, Call] = {}
    instances = list(dict.fromkeys(_instances(root)))
    try:
        groups = _grouped(instances, by_height=False)
    except graphlib.CycleError:  # a class whose instances hold instances of it
        groups = _grouped(instances, by_height=True)
    for members in groups:
        name = free_name(members[0].class_name, taken | set(texts))
        writer = ClassWriter(members, calls, named if members == [root] else {})
        texts[name] = writer.write(name)
        for index, member in enumerate(members):
            calls[id(member)] = writer.arguments.call(name, index)
    return texts, calls[id(root)]


class ClassWriter:
    """Writes one class from all of its instances.

    Args:
        members: the instances.
        calls: the constructor calls of those that they hold, by id.
        named: names of constructor arguments that are fixed beforehand, by what they count.
    """

    def __init__(
        self, members: list[Instance], calls: Mapping[int, Call], named: Mapping[Hashable, str]
    ) -> None:
        self.members = members
        self.calls = calls
        self.arguments = Arguments(
            tuple(member.entering for member in members),
            tuple(member.leaving for member in members),
            named,
        )

    def write(self, name: str) -> str:
        """The class's text; `arguments` are known afterwards."""
        self._lifted()  # finds the arguments, which get their names together
        self.arguments.name_all()
        fields, body = self._lifted()
        fields += [
            Statement(f"self.{argument.name} = ", Name(argument.name))
            for argument in self.arguments
            if argument.stored
        ]
        return self._text(name, fields, body)

    def _lifted(self) -> tuple[list[AnyStatement], list[AnyStatement]]:
        """The statements of the constructor and of the forward, for all instances at once."""
        fields = [
            self._statement(statements, _attribute(statements[0]), stored=False)
            for statements in zip(*(member.fields for member in self.members), strict=True)
        ]
        bodies = [member.forward.statements for member in self.members if member.forward]
        return fields, [
            self._statement(statements, "forward", stored=True)
            for statements in zip(*bodies, strict=True)
        ]

    def _statement(
        self, statements: Sequence[AnyStatement], attribute: str, stored: bool
    ) -> AnyStatement:
        columns = zip(*map(values_of, statements), strict=True)
        values = iter([self._value(column, (attribute, ""), stored) for column in columns])
        return with_values(statements[0], lambda _: next(values))

    def _value(
        self, values: Sequence[Value], role: Role, stored: bool, default: Value = REQUIRED
    ) -> Value:
        """One value for all instances; an argument where they differ."""
        values = [self.calls[id(v)] if isinstance(v, Instance) else v for v in values]
        first = values[0]
        if isinstance(first, Width) and first.channels in self.arguments.named:
            return self.arguments.lift(values, role, stored, first)
        if isinstance(first, Call) and alike(values):
            return self._call(values, role, stored)
        if any(map(_counts, values)) and all(
            isinstance(v, type(first)) and _places(v) == _places(first) for v in values
        ):
            if isinstance(first, dict):
                return {key: self._value([v[key] for v in values], role, stored) for key in first}
            columns = zip(*values, strict=True)
            return type(first)(self._value(column, role, stored) for column in columns)
        if equal(values):
            return first
        if default is REQUIRED and any(value is None for value in values):
            default = None
        return self.arguments.lift([self._as_calls(v) for v in values], role, stored, default)

    def _as_calls(self, value: Value) -> Value:
        """A value with the constructor calls of the instances within it."""
        if isinstance(value, Instance):
            return self.calls[id(value)]
        if isinstance(value, Call):
            positional = tuple(map(self._as_calls, value.positional))
            keywords = {key: self._as_calls(inner) for key, inner in value.keywords.items()}
            return replace(value, positional=positional, keywords=keywords)
        if isinstance(value, dict):
            return {key: self._as_calls(inner) for key, inner in value.items()}
        return type(value)(map(self._as_calls, value)) if isinstance(value, list | tuple) else value

    def _call(self, calls: Sequence[Call], role: Role, stored: bool) -> Call:
        first = calls[0]
        attribute = "_".join(part for part in role if part)
        if stored:
            attribute = first.function.rpartition(".")[2]
        names = [*first.names, *map(str, range(len(first.names), len(first.positional)))]
        positional = tuple(
            self._value(column, (attribute, name), stored)
            for name, column in zip(
                names, zip(*(call.positional for call in calls), strict=True), strict=True
            )
        )
        keywords = {
            key: self._value(
                [call.keywords[key] for call in calls],
                (attribute, key),
                stored,
                first.defaults.get(key, REQUIRED),
            )
            for key in first.keywords
        }
        return replace(first, positional=positional, keywords=keywords)

    def _text(self, name: str, fields: list[AnyStatement], body: list[AnyStatement]) -> str:
        parameters = ["self", *(argument.parameter for argument in self.arguments)]
        base = self.members[0].base
        if base == "nn.Module":
            fields = [Statement("", Call("super().__init__")), *fields]
        lines = [
            f"class {name}({base}):",
            signature("__init__", parameters, "None", INDENT),
            write_statements(fields, 2 * INDENT),
        ]
        forward = self.members[0].forward
        if forward is not None:
            head = signature("forward", ["self", *forward.parameters], forward.returns, INDENT)
            lines += ["", head, write_statements(body, 2 * INDENT)]
        return "\n".join(lines) + "\n"


def _counts(value: Value) -> bool:
    """Whether a list, tuple or dictionary holds widths, or what may hold them."""
    items = value.values() if isinstance(value, dict) else value
    return isinstance(value, dict | list | tuple) and any(
        isinstance(item, Width | Call | Instance | dict | list | tuple) for item in items
    )


def _places(value: Value) -> list[Any]:
    """The keys of a dictionary, the places of a list or tuple."""
    return list(value) if isinstance(value, dict) else list(range(len(value)))


def _attribute(statement: Statement) -> str:
    return statement.target.removeprefix("self.").removesuffix(" = ")


def _grouped(instances: Sequence[Instance], by_height: bool) -> list[list[Instance]]:
    """Instances of one written class each, after those that they hold.

    Raises:
        graphlib.CycleError: there is no such order, as there always is `by_height`.
    """
    keys = {
        instance: (instance.class_name, _skeleton(instance), by_height and _height(instance))
        for instance in instances
    }
    groups: dict[Hashable, list[Instance]] = {}
    for instance, key in keys.items():
        groups.setdefault(key, []).append(instance)
    held = {
        key: {keys[inner] for member in members for s in member.fields for inner in _held(s.value)}
        for key, members in groups.items()
    }
    return [groups[key] for key in graphlib.TopologicalSorter(held).static_order()]


def _instances(root: Instance) -> Iterator[Instance]:
    """Every instance within one, inner ones first, and itself."""
    for statement in root.fields:
        for inner in _held(statement.value):
            yield from _instances(inner)
    yield root


def _held(value: Value) -> Iterator[Instance]:
    """The instances within a value, without those within them."""
    if isinstance(value, Instance):
        yield value
    elif isinstance(value, Call):
        yield from _held([*value.positional, *value.keywords.values()])
    elif isinstance(value, dict):
        yield from _held(list(value.values()))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _held(inner)


def _height(instance: Instance) -> int:
    """How deep instances are nested within this one."""
    inner = [_height(held) for s in instance.fields for held in _held(s.value)]
    return 1 + max(inner, default=-1)


def _skeleton(instance: Instance) -> str:
    """What two instances must share to be of one written class."""
    fields = " ".join(statement.target for statement in instance.fields)
    if instance.forward is None:
        return fields
    body = write_statements(
        [with_values(statement, _without_widths) for statement in instance.forward.statements], 0
    )
    return f"{fields}\n{instance.forward.parameters}\n{body}"


def _without_widths(value: Value) -> Value:
    if isinstance(value, Width):
        return Name("#")
    if isinstance(value, Call):
        return replace(
            value,
            positional=tuple(map(_without_widths, value.positional)),
            keywords={key: _without_widths(inner) for key, inner in value.keywords.items()},
        )
    if isinstance(value, dict):
        return {key: _without_widths(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_without_widths, value))
    return value
