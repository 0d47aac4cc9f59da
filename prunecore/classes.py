"""Classes for traced modules, each written once for all of its instances."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from prunecore.arguments import free_name
from prunecore.class_writer import ClassWriter
from prunecore.instances import (
    Instance,
    by_structure,
    grouped,
    resolved,
    within,
)
from prunecore.source import (
    INDENT,
    Call,
    render,
)


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
        ways = [
            _written(groups, calls, {*taken, *texts}, own_names)
            for groups in ([members], by_structure(members, calls))
        ]
        written = min(ways, key=_length)  # the first of equally long ones
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
        name = free_name(members[0].class_name, taken | {one.name for one in written})
        writer = ClassWriter(members, calls, named)
        text = writer.write(name)
        own = [writer.arguments.call(name, index) for index in range(len(members))]
        written.append(_Class(name, text, members, own))
    return written


def _length(classes: Sequence[_Class]) -> int:
    """How long a file classes and the calls of their instances make."""
    return sum(one.text.count("\n") + _lines(one.calls) for one in classes)


def _lines(calls: Sequence[Call]) -> int:
    """How long a file these make."""
    return sum(render(call, 3 * INDENT).count("\n") + 1 for call in calls)
