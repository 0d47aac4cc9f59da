"""Variants of one forward: instances of a class that lack a child, or a removed block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import fx, nn

from prunecore.channels.names import is_within
from prunecore.channels.records import Trace
from prunecore.tracing.conditions import only_in
from prunecore.tracing.contexts import kinds
from prunecore.tracing.modules.attributes import HeldFloat, HeldInt
from prunecore.writing.passes.original_names import disagreeing, local_names
from prunecore.writing.text import same as same_values


@dataclass(frozen=True)
class Variant:
    """How one module is written.

    Attributes:
        trace: its forward; where it lacks a child that others have, theirs, with its own values.
        optional: the children that some instances of its class lack, `None` in their place.
        children: the names of the children that the class has, in order.
        is_shared: whether its class has other instances.
        names: what the original calls what a node computes.
    """

    trace: Trace
    optional: frozenset[str]
    children: tuple[str, ...]
    is_shared: bool
    names: Mapping[fx.Node, Sequence[str]]


def unify(traces: Mapping[str, Trace]) -> dict[str, Variant]:
    """Find the classes whose instances differ in children that some of them lack.

    An instance without `downsample`, say, is taken for one whose `downsample` returns its input,
    if that makes its forward the same as that of the instance that has most children.

    Args:
        traces: the followed forwards, by path.

    Returns:
        How each module is written, by path.
    """
    by_class: dict[type[nn.Module], list[str]] = {}
    for path, trace in traces.items():
        by_class.setdefault(type(trace.module), []).append(path)
    variants: dict[str, Variant] = {}
    for paths in by_class.values():
        variants.update(_unify_class({path: traces[path] for path in paths}))
    return variants


def without_residual_blocks(
    traces: Mapping[str, Trace], removed: Sequence[str]
) -> dict[str, Trace]:
    """The forwards without the calls of blocks that go: each passes its input on.

    Args:
        traces: the followed forwards, by path.
        removed: the paths of the blocks.
    """
    gone = {path: trace for path, trace in traces.items() if not is_within(path, removed)}
    for block in removed:
        parent = next(path for path in _parents(block) if path in gone or not path)
        if parent in gone:
            gone[parent] = _without_call(gone[parent], block.removeprefix(f"{parent}."))
    return gone


def _parents(path: str) -> list[str]:
    """The paths of the modules that hold this one, the innermost first."""
    parts = path.split(".")
    return [".".join(parts[:length]) for length in range(len(parts) - 1, -1, -1)]


def _without_call(trace: Trace, child: str) -> Trace:
    copied, _ = trace.copied()
    for node in list(copied.graph.nodes):
        if node.op == "call_module" and node.target == child:
            node.replace_all_uses_with(node.args[0])
            copied.graph.erase_node(node)
    return copied


def _unify_class(traces: Mapping[str, Trace]) -> dict[str, Variant]:
    full = max(traces.values(), key=lambda trace: len(trace.graph.nodes))
    taken = {path: _aligned(full, trace) for path, trace in traces.items()}
    optional = frozenset(
        name
        for path, trace in taken.items()
        if trace is not None
        for name in _lacking(full.module, traces[path].module)
    )
    unified = {path: trace or traces[path] for path, trace in taken.items()}
    nameless = disagreeing(unified)
    variants = {}
    for path, trace in unified.items():
        module = traces[path].module if taken[path] is None else full.module
        missing = frozenset() if taken[path] is None else optional
        names = {} if path in nameless else local_names(trace)
        children = tuple(module._modules)
        variants[path] = Variant(trace, missing, children, len(traces) > 1, names)
    return variants


def _lacking(full: nn.Module, module: nn.Module) -> list[str]:
    return [name for name in full._modules if getattr(module, name, None) is None]


def _aligned(full: Trace, trace: Trace) -> Trace | None:
    """The full graph with the values of another trace; `None` if they differ in more."""
    lacking = set(_lacking(full.module, trace.module))
    others = iter(trace.graph.nodes)
    same: dict[fx.Node, fx.Node] = {}
    values: dict[fx.Node, Any] = {}
    for node in full.graph.nodes:
        if node.op == "call_module" and node.target in lacking:
            if len(node.args) != 1 or not isinstance(node.args[0], fx.Node):
                return None  # it does not pass one input on
            same[node] = same[node.args[0]]
        else:
            other = next(others, None)
            if other is None or not _alike(node, other, same):
                return None
            same[node] = other
        if same[node] in trace.values:
            values[node] = trace.values[same[node]]
    if next(others, None) is not None:
        return None
    return replace(trace, graph=full.graph, values=values) if lacking else trace


def _alike(node: fx.Node, other: fx.Node, same: Mapping[fx.Node, fx.Node]) -> bool:
    if (node.op, node.target, only_in(node)) != (other.op, other.target, only_in(other)):
        return False
    if kinds(node) != kinds(other):
        return False
    theirs = [other.args, dict(other.kwargs)]
    return _are_given_alike([node.args, dict(node.kwargs)], theirs, same)


def _are_given_alike(ours: Any, theirs: Any, same: Mapping[fx.Node, fx.Node]) -> bool:
    """True if arguments are the same, with nodes of the other graph in the places of ours."""
    if isinstance(ours, list | tuple | dict):
        if type(ours) is not type(theirs) or len(ours) != len(theirs):
            return False
        one, other = ([*x.items()] if isinstance(x, dict) else x for x in (ours, theirs))
        pairs = zip(one, other, strict=True)
        return all(_are_given_alike(mine, yours, same) for mine, yours in pairs)
    if isinstance(theirs, list | tuple | dict):
        return False
    return same_values(
        same.get(ours) if isinstance(ours, fx.Node) else _named(ours), _named(theirs)
    )


def _named(leaf: Any) -> Any:
    """An argument; a number that the module holds by its name, whatever it is."""
    return ("self", leaf.attribute) if isinstance(leaf, HeldInt | HeldFloat) else leaf
