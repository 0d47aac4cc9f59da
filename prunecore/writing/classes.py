"""Written classes: what the instances of each share, and arguments for what differs."""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from prunecore.channels.keep import Width
from prunecore.escaping import nearest_name
from prunecore.writing.arguments import Arguments, Role, alike, equal, kind_of_layer
from prunecore.writing.containers import initialise, numbered
from prunecore.writing.forwards.forward import holds_width
from prunecore.writing.instances import (
    Instance,
    by_structure,
    differing_lasts,
    grouped,
    resolved,
    shared_options,
    with_calls,
    within,
    without_last,
)
from prunecore.writing.statements import (
    AnyStatement,
    Compound,
    Statement,
    signature,
    values_of,
    with_values,
    write_statements,
)
from prunecore.writing.text import (
    INDENT,
    REQUIRED,
    Call,
    Name,
    Value,
    free_name,
    one_line,
    render,
    same,
)

# What a fraction is that a forward gives a function, where the function's name does not say it.
_MEANINGS = {"bernoulli": "keep_prob"}


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
        self._rows = [with_calls(member.fields, calls) for member in members]
        self._held = [resolved(dict(member.held or {}), calls) for member in members]
        self.arguments = Arguments(
            tuple(member.entering for member in members),
            tuple(member.leaving for member in members),
            named,
        )

    def write(self, name: str) -> str:
        """The class's text; `arguments` are known afterwards."""
        self._lifted()  # finds the arguments, which get their names together
        self.arguments.name_all({_attribute(statement) for statement in self.members[0].fields})
        fields, body = self._lifted()
        fields += [
            Statement(f"self.{argument.name} = ", Name(argument.name))
            for argument in self.arguments
            if argument.stored
        ]
        return self._text(name, fields, body)

    def _lifted(self) -> tuple[list[AnyStatement], list[AnyStatement]]:
        """The statements of the constructor and of the forward, for all instances at once."""
        self.arguments.begin()
        bodies = [member.forward.statements for member in self.members if member.forward]
        return self._fields(), [
            self._statement(statements, "forward", stored=True)
            for statements in zip(*bodies, strict=True)
        ]

    def _fields(self) -> list[AnyStatement]:
        """The statements of the constructor; a last layer that only some have is appended."""
        if self.members[0].held is not None:
            return [Statement("", self._initialised()), *self._of_rows(self._rows)]
        rows, lasts = self._rows, None
        if self.members[0].inline:
            lasts = differing_lasts([member.fields for member in self.members])
        if lasts is not None:
            rows = [[without_last(row[0], last)] for row, last in zip(rows, lasts, strict=True)]
        fields = self._of_rows(rows)
        if lasts is None:
            return fields
        options = shared_options(lasts)
        values = lasts if options is None else [last and Name(last.function) for last in lasts]
        default = None if None in lasts else REQUIRED
        argument = self.arguments.lift(values, (kind_of_layer(lasts), ""), False, default)
        made = argument if options is None else Call(argument.text, (), options)
        append = Statement("", Call("self.append", (made,)))
        if default is None:
            return [*fields, Compound(f"if {argument.text} is not None", (append,))]
        return [*fields, append]

    def _of_rows(self, rows: Sequence[Sequence[AnyStatement]]) -> list[AnyStatement]:
        return [
            self._statement(statements, _attribute(statements[0]), stored=False)
            for statements in zip(*rows, strict=True)
        ]

    def _initialised(self) -> Call:
        """The call of the constructor of the container that the class derives from."""
        base, held = self.members[0].base, self._held
        keys = [list(children) for children in held]
        if keys.count(keys[0]) == len(keys):
            columns = {key: [children[key] for children in held] for key in keys[0]}
            return initialise(
                base,
                {key: self._value(column, (key, ""), False) for key, column in columns.items()},
            )
        if (star := numbered(base, keys)) is None:
            layers = self.arguments.lift(held, ("layers", ""), False, REQUIRED)
            given = Call("OrderedDict", (layers,)) if base == "nn.Sequential" else layers
            return Call("super().__init__", (given,))
        lists = [list(children.values()) for children in held]
        layers = self.arguments.lift(lists, ("layers", ""), False, REQUIRED)
        return Call("super().__init__", (Name(star.format(layers.text)),))

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
        first = values[0]
        if all(map(operator.is_, values, itertools.repeat(first))) and not holds_width(first):
            return first
        if isinstance(first, Width) and first.channels in self.arguments.named:
            return self.arguments.lift(values, role, stored, first)
        if isinstance(first, Call) and alike(values):
            return self._call(values, role, stored)
        if any(map(_counts, values)) and all(
            type(v) is type(first) and _places(v) == _places(first) for v in values
        ):
            if isinstance(first, dict):
                return {key: self._value([v[key] for v in values], role, stored) for key in first}
            columns = zip(*values, strict=True)
            return type(first)(self._value(column, role, stored) for column in columns)
        if equal(values):
            return first
        if default is REQUIRED and any(value is None for value in values):
            default = None
        if not role[1] or role[1].isdigit():
            role = (role[0] or kind_of_layer(values), role[1])
        return self.arguments.lift(values, role, stored, default)

    def _call(self, calls: Sequence[Call], role: Role, stored: bool) -> Call:
        first = calls[0]
        attribute = _label(role, first.function)
        if stored:
            called = first.function.rpartition(".")[2].rstrip("_")
            attribute = _MEANINGS.get(called, called)
        names = [*first.names, *map(str, range(len(first.names), len(first.positional)))]
        columns = list(zip(*(call.positional for call in calls), strict=True))
        if stored:  # what a function calls them says nothing of the channels that widths count
            known = zip(names, columns, strict=True)
            names = [str(n) if any(map(holds_width, c)) else x for n, (x, c) in enumerate(known)]
        positional = tuple(
            self._value(column, (attribute, name), stored)
            for name, column in zip(names, columns, strict=True)
        )
        given = dict(zip(names, positional, strict=True))
        keywords: dict[str, Value] = {}
        for key in first.keywords:
            column = [call.keywords[key] for call in calls]
            source = None if equal(column) else _twice(column, calls)
            if source is not None:
                keywords[key] = Name(f"{one_line(given[source])} // 2", 5)
            elif key == "padding" and _is_dilation(column, calls):
                keywords[key] = self._value(column, (attribute, "dilation"), stored, 1)
            else:
                default = first.defaults.get(key, REQUIRED)
                keywords[key] = self._value(column, (attribute, key), stored, default)
        return replace(first, positional=positional, keywords=keywords)

    def _text(self, name: str, fields: list[AnyStatement], body: list[AnyStatement]) -> str:
        base, forward = self.members[0].base, self.members[0].forward
        parameters = [argument.parameter for argument in self.arguments]
        parts = []
        if fields or parameters or forward is None:
            if base == "nn.Module":
                fields = [Statement("", Call("super().__init__")), *fields]
            head = signature("__init__", ["self", *parameters], "None", INDENT)
            parts.append(f"{head}\n{write_statements(fields, 2 * INDENT)}")
        if forward is not None:
            head = signature("forward", ["self", *forward.parameters], forward.returns, INDENT)
            parts.append(f"{head}\n{write_statements(body, 2 * INDENT)}")
        if self.members[0].methods:
            parts.append(self.members[0].methods)
        return f"class {name}({base}):\n" + "\n\n".join(parts) + "\n"


def _counts(value: Value) -> bool:
    """True if a list, tuple or dictionary holds widths, or what may hold them."""
    items = value.values() if isinstance(value, dict) else value
    return isinstance(value, dict | list | tuple) and any(
        isinstance(item, Width | Call | dict | list | tuple) for item in items
    )


def _places(value: Value) -> list[Any] | None:
    """The keys of a dictionary, the places of a list or tuple; `None` of what is neither."""
    if isinstance(value, dict):
        return list(value)
    return list(range(len(value))) if isinstance(value, list | tuple) else None


def _attribute(statement: AnyStatement) -> str:
    target = statement.target if isinstance(statement, Statement) else ""
    return target.removeprefix("self.").removesuffix(" = ")


def _label(role: Role, function: str) -> str:
    """What the arguments of a call are named after: a key, else what is around it, else a class."""
    if role[1] and not role[1].isdigit():
        return role[1]
    if not role[0] and "." not in function:
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", function).lower().strip("_")
    return role[0]


def _is_dilation(column: Sequence[Value], calls: Sequence[Call]) -> bool:
    """True if a padding is always the dilation, as that of a kernel of three places is."""
    dilations = [call.keywords.get("dilation") for call in calls]
    pairs = list(zip(column, dilations, strict=True))
    return not equal(column) and all(same(padding, dilation) for padding, dilation in pairs)


def _twice(column: Sequence[Value], calls: Sequence[Call]) -> str | None:
    """The argument of which another one is always the half, as padding is of a kernel's size."""
    for place, name in enumerate(calls[0].names):
        pairs = zip(column, (call.positional[place] for call in calls), strict=True)
        if all(_is_half(half, whole) for half, whole in pairs):
            return name
    return None


def _is_half(half: Value, whole: Value) -> bool:
    return type(half) is int and type(whole) is int and whole % 2 == 1 and half == whole // 2


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
    for members in grouped(list(dict.fromkeys(within(root)))):
        own_names = named if members == [root] else {}
        written = _written([members], calls, {*taken, *texts}, own_names)
        if len(parted := by_structure(members, calls)) > 1:
            other = _written(parted, calls, {*taken, *texts}, own_names)
            written = min(written, other, key=_length)  # the first of equally long ones
        own = [call for one in written for call in one.calls]
        inline = [resolved(member.inline, calls) for member in members if member.inline]
        is_shorter = len(members) > 1 and _length(written) < _lines(inline)
        if root in members or not inline or is_shorter:
            texts |= {one.name: one.text for one in written}
        else:
            own = inline
        owners = [member for one in written for member in one.members]
        calls |= {id(member): call for member, call in zip(owners, own, strict=True)}
    return texts, calls[id(root)]


@dataclass(frozen=True)
class _Class:
    """A class as it is written, and the calls that make its instances."""

    name: str
    text: str
    members: Sequence[Instance]
    calls: Sequence[Call]


def _written(
    groups: Sequence[list[Instance]],
    calls: Mapping[int, Call],
    taken: set[str],
    named: Mapping[Hashable, str],
) -> list[_Class]:
    """Write a class for each of these groups of instances."""
    written: list[_Class] = []
    for members in groups:
        own = nearest_name(members[0].class_name, "Module")
        name = free_name(own, taken | {one.name for one in written})
        writer = ClassWriter(members, calls, named)
        text = writer.write(name)
        made = writer.arguments.calls(name, len(members))
        written.append(_Class(name, text, members, made))
    return written


def _length(classes: Sequence[_Class]) -> int:
    """How long a file classes and the calls of their instances make."""
    return sum(one.text.count("\n") + _lines(one.calls) for one in classes)


def _lines(calls: Sequence[Call]) -> int:
    """How long a file these make."""
    return sum(render(call, 3 * INDENT).count("\n") + 1 for call in calls)
