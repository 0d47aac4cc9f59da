"""The hooks of a block that was traced, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from prunecore.channels.dependencies import Dependencies
from prunecore.channels.keep import Keep, Width
from prunecore.errors import UnsupportedError
from prunecore.escaping import quoted
from prunecore.registry import Plugins
from prunecore.scaffold.calculator import CalculatorWriter, of_block
from prunecore.testing.walk import PATH, Followed, Network
from prunecore.walking.calls import picking
from prunecore.writing.classes import ClassWriter
from prunecore.writing.instances import Instance, mapped
from prunecore.writing.passes.variants import unify
from prunecore.writing.statements import (
    AnyStatement,
    Compound,
    Statement,
    with_values,
    write_statements,
)
from prunecore.writing.text import INDENT, Call, Name, Value
from prunecore.writing.writer import Writer

_CHILD = "writer.child"


@dataclass(frozen=True)
class Hooks:
    """The hooks of one class.

    Attributes:
        source: the class as it is written, its widths and composite children as arguments.
        calculate: the body of prunecore_calculate_dependencies.
        write: the body of prunecore_write_block.
    """

    source: str
    calculate: str
    write: str


def hooks_of(network: Network, followed: Followed, plugins: Plugins) -> Hooks:
    """Write the hooks of a network's block.

    Args:
        network: the block's network.
        followed: what the walk through it found.
        plugins: the loaded plugins.

    Raises:
        UnsupportedError: its forward holds a number of channels that no weight has, or takes
            channels by their places.
    """
    found = followed.dependencies
    trace = found.forwards.traces[PATH]
    call = next((node for node in trace.graph.nodes if picking(trace, node)), None)
    if call is not None:
        raise UnsupportedError(
            PATH,
            type(network.block).__name__,
            f"{call.name} takes channels by their places, which differ with those that are kept",
            "Without a plugin it is written with the places of each network.",
        )
    keep = Keep(network, found, np.ones(found.count, dtype=bool))
    calculator = CalculatorWriter(unify(found.forwards.traces)[PATH], keep, plugins.functions)
    instance = Writer(network, keep, plugins).trace(network.block, PATH).call
    one = replace(
        instance,
        fields=tuple(_as_field(network.block, s) for s in instance.fields),
        held=_as_held(network.block, instance.held),
    )
    name = type(network.block).__name__
    written = ClassWriter([one, _another(one)], {}, {})
    source = written.write(name)
    (call,) = written.arguments.calls(name, 1)
    return Hooks(
        source,
        _body(calculator.statements_of_hook()),
        _body(_write_hook(call, network.block, found)),
    )


def _body(statements: Sequence[AnyStatement]) -> str:
    return write_statements(statements, INDENT)


def _as_field(block: nn.Module, field: AnyStatement) -> AnyStatement:
    """A child's statement; one that needs classes of its own becomes a constructor argument."""
    field = with_values(field, _inlined)
    if isinstance(field, Compound) or _is_plain(field.value):
        return field
    if field.target:
        key = field.target.removeprefix("self.").removesuffix(" = ")
        return replace(field, value=_child(block, key))
    key = field.value.positional[0]
    return replace(field, value=Call(field.value.function, (key, _child(block, key))))


def _as_held(block: nn.Module, held: Mapping[str, Value] | None) -> Mapping[str, Value] | None:
    if held is None:
        return None
    plain = {key: _inlined(child) for key, child in held.items()}
    return {k: child if _is_plain(child) else _child(block, k) for k, child in plain.items()}


def _inlined(value: Value) -> Value:
    """A value with containers in the places of classes that add nothing but a name to one."""
    if isinstance(value, Instance) and value.inline is not None:
        return _inlined(value.inline)
    return mapped(value, _inlined)


def _child(block: nn.Module, key: str) -> Call:
    literal = key.replace("{", "{{").replace("}", "}}")
    return Call(_CHILD, (of_block(block, key), Name(f"f{quoted(f'{{name}}.{literal}')}")))


def _is_plain(value: Value) -> bool:
    """True if a value is made of literals and of what torch has."""
    if isinstance(value, Call):
        of_torch = value.function.startswith(("nn.", "torch.", "self."))
        return of_torch and all(map(_is_plain, [*value.positional, *value.keywords.values()]))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return not isinstance(value, Instance | dict)


def _another(instance: Instance) -> Instance:
    """An instance with other widths and children, so that these are the arguments of its class."""

    def others(statements: Sequence[AnyStatement]) -> tuple[AnyStatement, ...]:
        return tuple(with_values(statement, _other) for statement in statements)

    forward = instance.forward
    if forward is not None:
        forward = replace(forward, statements=others(forward.statements))
    held = instance.held and _other(dict(instance.held))
    return replace(instance, fields=others(instance.fields), forward=forward, held=held)


def _other(value: Value) -> Value:
    if isinstance(value, Width):
        return Width(value + 1, value.channels)
    if isinstance(value, Call) and value.function == _CHILD:
        return Call("another")
    return mapped(value, _other)


def _write_hook(call: Call, block: nn.Module, found: Dependencies) -> list[Statement]:
    """The constructor call, its widths first by name."""
    arguments = dict(zip(call.names, call.positional, strict=True))
    widths = [
        Statement(f"{name} = ", _expression(width, block, found))
        for name, width in arguments.items()
    ]
    keywords = {
        name: _expression(value, block, found) if isinstance(value, Width) else value
        for name, value in call.keywords.items()
    }
    given: list[Value] = [call.function, tuple(map(Name, arguments))]
    given += [keywords] if keywords else []
    given += [dict(call.defaults)] if call.defaults else []
    source = Call("BlockSource", (Name("call"), {call.function: Name("SOURCE")}))
    return [*widths, Statement("call = ", Call("Call", tuple(given))), Statement("return ", source)]


def _expression(width: Width, block: nn.Module, found: Dependencies) -> Value:
    """What gives a kept width when another block is written."""
    for name, axes in found.bound.items():
        for axis, index in axes.items():
            if index == width.channels:
                return Call("writer.width", (of_block(block, _within(name)), axis))
    for (path, attribute), index in found.widths.items():
        if index == width.channels:
            return Call("writer.argument", (of_block(block, _within(path)), attribute))
    raise UnsupportedError(
        PATH,
        type(block).__name__,
        f"its forward holds the number {width}, which counts channels that no weight has",
        "Compute it from the shape of a tensor, x.shape[1].",
    )


def _within(path: str) -> str:
    return path.removeprefix(f"{PATH}.")
