"""Instances of written classes: the modules that get one, grouped by the class that they share."""

from __future__ import annotations

import graphlib
import operator
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from prunecore.channels.keep import Width
from prunecore.escaping import is_name
from prunecore.writing.forwards.forward import Forward
from prunecore.writing.statements import (
    AnyStatement,
    Statement,
    values_of,
    with_values,
    write_statements,
)
from prunecore.writing.text import Call, Name, Value, one_line, same


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
        held: what it holds as the container that it derives from, by key, if it derives from one.
        methods: the text of its methods, of a module that is written as it stands.
        inline: the call of its base that does as well, where its class adds nothing but a name.
    """

    class_name: str
    fields: tuple[AnyStatement, ...]
    forward: Forward | None
    entering: Hashable
    leaving: Hashable
    base: str = "nn.Module"
    inline: Call | None = None
    held: Mapping[str, Value] | None = None
    methods: str = ""


def derived(call: Call, class_name: str, entering: Hashable, leaving: Hashable) -> Instance:
    """A module whose class adds nothing but a name to the container that it derives from.

    Args:
        call: the constructor call of that container, `nn.Sequential(...)`.
        class_name: the original class's name.
        entering: the channels that its input carries.
        leaving: the channels that its output carries.
    """
    initialise = Statement("", replace(call, function="super().__init__"))
    fields = [initialise]
    if len(call.positional) == 1 and _is_named(call.positional[0]):
        children = call.positional[0].keywords
        named = [Statement(f"self.{key} = ", child) for key, child in children.items()]
        fields = [Statement("", Call("super().__init__")), *named]
    return Instance(class_name, tuple(fields), None, entering, leaving, call.function, call)


def _is_named(value: Value) -> bool:
    return (
        isinstance(value, Call)
        and value.function == "OrderedDict"
        and bool(value.keywords)
        and all(map(is_name, value.keywords))
    )


def is_without_arguments(value: Value) -> bool:
    """True if a value is a call that names options alone, as that of an activation."""
    return isinstance(value, Call) and not value.positional


def differing_lasts(rows: Sequence[Sequence[AnyStatement]]) -> list[Value] | None:
    """The last layers of numbered containers, where they differ in kind or some lack them.

    Args:
        rows: the statements of each one's constructor.

    Returns:
        A call each, or `None` for one that has no such layer; `None` if all have the same.
    """
    if any(len(row) > 1 for row in rows):
        return None
    children = [value.positional for row in rows for value in values_of(row[0])]
    most = max(map(len, children))
    lasts = [given[-1] if len(given) == most else None for given in children]
    kinds = {last and last.function for last in lasts if isinstance(last, Call | None)}
    return lasts if len(kinds) > 1 and all(map(is_without_arguments, filter(None, lasts))) else None


def shared_options(lasts: Sequence[Value]) -> Mapping[str, Value] | None:
    """The options that all of these layers are made with; `None` if they differ."""
    written = [replace(last, function="") for last in lasts if last is not None]
    if any(one_line(call) != one_line(written[0]) for call in written):
        return None
    return {
        key: value
        for key, value in written[0].keywords.items()
        if key not in written[0].defaults or not same(value, written[0].defaults[key])
    }


def without_last(statement: AnyStatement, last: Value) -> AnyStatement:
    """The call of a container's constructor without its last layer, if it has that one."""
    if last is None:
        return statement
    return with_values(statement, lambda call: replace(call, positional=call.positional[:-1]))


def grouped(instances: Sequence[Instance]) -> list[list[Instance]]:
    """Instances of one written class each, after those that they hold."""
    try:
        return _grouped(instances, by_height=False)
    except graphlib.CycleError:  # a class whose instances hold instances of it
        return _grouped(instances, by_height=True)


def _grouped(instances: Sequence[Instance], by_height: bool) -> list[list[Instance]]:
    keys = {
        instance: (instance.class_name, _skeleton(instance), by_height and _height(instance))
        for instance in instances
    }
    groups = _by_key(instances, keys.values())
    held = {  # in order, in which the classes then stand
        key: dict.fromkeys(keys[inner] for member in members for inner in _held_by(member))
        for key, members in groups.items()
    }
    return [groups[key] for key in graphlib.TopologicalSorter(held).static_order()]


def by_structure(instances: Sequence[Instance], calls: Mapping[int, Call]) -> list[list[Instance]]:
    """Instances of one class, those whose children are made by the same calls together.

    A child that some lack, or have as an empty container or plain layer, makes no difference.

    Args:
        instances: the instances.
        calls: the constructor calls of those that they hold, by id.
    """
    rows = [
        [value for one in with_calls(instance.fields, calls) for value in values_of(one)]
        for instance in instances
    ]
    columns = [column for column in zip(*rows, strict=True) if not any(map(_is_empty, column))]
    keys = zip(*([_structure(value) for value in column] for column in columns), strict=True)
    return list(_by_key(instances, keys if columns else ((),) * len(rows)).values())


def _by_key(
    instances: Sequence[Instance], keys: Iterable[Hashable]
) -> dict[Hashable, list[Instance]]:
    """Instances by a key each, the keys in the order in which they come first."""
    groups: dict[Hashable, list[Instance]] = {}
    for instance, key in zip(instances, keys, strict=True):
        groups.setdefault(key, []).append(instance)
    return groups


def _is_empty(value: Value) -> bool:
    return value is None or is_without_arguments(value)


def _structure(value: Value) -> Hashable:
    """What calls a value is made of, whatever else they are given."""
    if _is_empty(value):
        return None
    if isinstance(value, Call):
        given = [*value.positional, *value.keywords.values()]
        return (value.function, *map(_structure, given))
    if isinstance(value, list | tuple):
        return tuple(map(_structure, value))
    if isinstance(value, dict):
        return tuple((key, _structure(item)) for key, item in value.items())
    return None


def within(root: Instance) -> Iterator[Instance]:
    """Every instance within one, inner ones first, and itself."""
    for inner in _held_by(root):
        yield from within(inner)
    yield root


def _held_by(instance: Instance) -> list[Instance]:
    """The instances within one, without those within them."""
    found: list[Instance] = []
    own = [value for statement in instance.fields for value in values_of(statement)]
    waiting: list[Value] = [own, dict(instance.held or {})]  # the last is the next
    while waiting:
        value = waiting.pop()
        if isinstance(value, Instance):
            found.append(value)
        elif isinstance(value, Call):
            waiting += [*value.positional, *value.keywords.values()][::-1]
        elif isinstance(value, dict):
            waiting += [*value.values()][::-1]
        elif isinstance(value, list | tuple):
            waiting += value[::-1]
    return found


def resolved(value: Value, calls: Mapping[int, Call]) -> Value:
    """A value with constructor calls in the places of instances.

    Args:
        value: the value.
        calls: the calls, by id of the instance; where one is missing, it is written inline.
    """
    if isinstance(value, Instance):
        call = calls.get(id(value))
        return resolved(value.inline, calls) if call is None else call
    return mapped(value, lambda inner: resolved(inner, calls))


def with_calls(statements: Sequence[AnyStatement], calls: Mapping[int, Call]) -> list[AnyStatement]:
    """Statements with constructor calls in the places of instances, as `resolved` has them."""
    return [with_values(one, lambda value: resolved(value, calls)) for one in statements]


def mapped(value: Value, change: Callable[[Value], Value]) -> Value:
    """A call, list, tuple or dictionary with other items in the places of its own.

    Where none is another one it is the very same, whose text may be known already.
    """
    if isinstance(value, Call):
        positional = tuple(map(change, value.positional))
        keywords = {key: change(inner) for key, inner in value.keywords.items()}
        if _are(positional, value.positional) and _are(keywords.values(), value.keywords.values()):
            return value
        return Call(value.function, positional, keywords, value.defaults, value.names)
    if isinstance(value, list | tuple):
        items = type(value)(map(change, value))
        return value if _are(items, value) else items
    if isinstance(value, dict):
        entries = {key: change(inner) for key, inner in value.items()}
        return value if _are(entries.values(), value.values()) else entries
    return value


def _are(items: Iterable[Value], others: Iterable[Value]) -> bool:
    """True if these are the very same values as those, as many as they are."""
    return all(map(operator.is_, items, others))


def _height(instance: Instance) -> int:
    """How deep instances are nested within this one."""
    return 1 + max(map(_height, _held_by(instance)), default=-1)


def _skeleton(instance: Instance) -> str:
    """What two instances must share to be of one written class."""
    blank = [with_values(statement, lambda _: Name("_")) for statement in instance.fields]
    fields = write_statements(blank, 0)
    if instance.forward is None:
        children = _children(instance) if instance.inline else ""
        return f"{fields} {instance.base} {children} {instance.methods}"
    body = write_statements(
        [with_values(statement, _without_numbers) for statement in instance.forward.statements], 0
    )
    return f"{instance.base}\n{fields}\n{instance.forward.parameters}\n{body}"


def _children(instance: Instance) -> list[str]:
    """What a derived container calls, but for a last layer that may differ: an activation."""
    children = [child for s in instance.fields for child in _given(s)]
    if children and is_without_arguments(children[-1]):
        children.pop()
    return [one_line(_without_arguments(child)) for child in children]


def _given(statement: AnyStatement) -> list[Value]:
    value = values_of(statement)[0]
    is_super = isinstance(value, Call) and value.function == "super().__init__"
    return list(value.positional) if is_super else [value]


def _without_arguments(value: Value) -> Value:
    """A call, and those in a dictionary that it is given, without what else it is given."""
    if isinstance(value, Instance):
        return Name(value.class_name)
    if isinstance(value, Call) and value.function == "OrderedDict":
        return mapped(value, lambda children: mapped(children, _without_arguments))
    return Name(value.function) if isinstance(value, Call) else value


def _without_numbers(value: Value) -> Value:
    """A value without the widths and numbers in it, which may be arguments of the class."""
    if isinstance(value, Width | float | int):
        return Name("_")
    return mapped(value, _without_numbers)
