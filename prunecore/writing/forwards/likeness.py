"""Forwards that are written alike, as those of equal blocks are: one is written for all of them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from torch import fx, nn

from prunecore.channels.keep import Keep
from prunecore.channels.signal import Signal
from prunecore.escaping import plain_text
from prunecore.functions.rule import FunctionRule
from prunecore.tracing.conditions import OPTIONAL
from prunecore.tracing.contexts import under
from prunecore.tracing.modules.attributes import HeldFloat, HeldInt
from prunecore.tracing.nodes import IS_PUT_BACK, function_of, reads_shape
from prunecore.writing.forwards.forward import mixes
from prunecore.writing.passes.variants import Variant

# arguments that are the same where their texts are
_PLAIN = (
    *(bool, int, float, complex, str, type(None), type(...)),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format),
)


def likeness(
    variant: Variant, keep: Keep, functions: Mapping[Callable[..., Any], FunctionRule]
) -> Hashable:
    """What two forwards of one job share that `ForwardWriter` writes alike.

    Args:
        variant: the forward.
        keep: what stays.
        functions: the rules.

    Returns:
        A key; `None` for a forward whose text may depend on more: on widths, shapes or constants.
    """
    trace = variant.trace
    if any(_depends_on_more(node, variant, keep, functions) for node in trace.graph.nodes):
        return None
    numbers = {node: number for number, node in enumerate(trace.graph.nodes)}
    nodes = [_described(node, variant, numbers) for node in numbers]
    shared = variant.optional, variant.is_shared, _kind(trace.output)
    return (type(trace.module), *shared, *nodes)


def _depends_on_more(
    node: fx.Node,
    variant: Variant,
    keep: Keep,
    functions: Mapping[Callable[..., Any], FunctionRule],
) -> bool:
    if under(node) or reads_shape(node):
        return True
    if node.op == "call_module":
        child = _called(node, variant)
        return child is not None and bool(keep.constants(child))
    if node.op == "get_attr":
        return "." in str(node.target)  # how that is reached depends on the modules on its way
    if node.op not in ("call_function", "call_method"):
        return False
    rule = functions.get(function_of(node))
    return rule is not None and rule.rewrite is not None


def _called(node: fx.Node, variant: Variant) -> nn.Module | None:
    """The child that a node calls; `None` for one that other instances lack, or even this one."""
    if node.target in variant.optional:
        return None
    return variant.trace.module._modules[str(node.target)]


def _described(node: fx.Node, variant: Variant, numbers: Mapping[fx.Node, int]) -> tuple[Any, ...]:
    """A node by what it does and is given, nodes by their numbers."""

    def described(value: Any) -> Hashable:
        if isinstance(value, fx.Node):
            return f"%{numbers[value]}"
        if isinstance(value, HeldInt | HeldFloat):  # in a slice the number itself is written
            return value.attribute, plain_text(value)
        if isinstance(value, slice):
            value = slice, value.start, value.stop, value.step
        if isinstance(value, dict):
            value = [dict, *value.items()]
        if isinstance(value, list | tuple):
            return (type(value), *map(described, value))
        return type(value), plain_text(value) if isinstance(value, _PLAIN) else id(value)

    given = described((node.args, dict(node.kwargs)))
    marks = node.meta.get(OPTIONAL, False), node.meta.get(IS_PUT_BACK, False)
    child = _called(node, variant) if node.op == "call_module" else None
    called = () if child is None else (type(child), bool(child._modules), mixes(child))
    value, names = variant.trace.values.get(node), tuple(variant.names.get(node, ()))
    if isinstance(value, list) and not any(user.target is operator.getitem for user in node.users):
        value = _without_repeats(value)
    return node.op, node.target, given, _kind(value), names, *marks, *called


def _without_repeats(values: list[Any]) -> list[Any]:
    """One of a list of values of one kind, which is all that tells of a list handed on whole."""
    return values if any(_kind(value) != _kind(values[0]) for value in values) else values[:1]


def _kind(value: Any) -> Any:
    """What a value is, whatever its size."""
    if isinstance(value, Signal):
        return Signal
    if isinstance(value, dict):
        return (type(value), *((key, _kind(item)) for key, item in value.items()))
    if isinstance(value, list | tuple):
        return (type(value), *map(_kind, value))
    return type(value)
