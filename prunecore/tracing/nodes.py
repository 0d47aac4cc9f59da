"""Nodes of a traced forward: which work in place, and which nothing needs."""

from __future__ import annotations

import operator
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx

from prunecore.functions.table import SIGNS
from prunecore.tracing.conditions import Condition, decide, deciding_on

IS_PUT_BACK = "put back"  # ... that it stands for `y[0] += x`, with the assignment after it
NAME = "name"  # ... what it is called where forwards that go several ways have one of its name
IS_COPY = "copy"  # ... that what it returns has to stay a copy of the tensor whose places it takes

# what returns a view of a tensor or a copy, as it lies in memory, which depends on its sizes
BY_LAYOUT = frozenset(
    function
    for name in ("reshape", "reshape_as", "flatten", "ravel", "contiguous")
    for function in (getattr(torch, name, None), getattr(Tensor, name))
    if function is not None
)


def without_dead(graph: fx.Graph) -> None:
    """Take out what nothing uses, such as what a forward prints, or a hook that only looks.

    Args:
        graph: the trace; it is changed.
    """
    for node in reversed(graph.nodes):
        if not node.users and is_dead(node):
            graph.erase_node(node)


def is_dead(node: fx.Node) -> bool:
    """True if nothing uses the node, and computing it changes nothing."""
    pending, seen = [node], {node}
    while pending:
        last = pending.pop()
        if _is_needed(last):
            return False
        pending += [user for user in _users(last) if user not in seen]
        seen.update(pending)
    return True


def living(graph: fx.Graph) -> list[fx.Node]:
    """The nodes that are not dead, in order; of all of them in one pass."""
    alive: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if _is_needed(node) or not alive.isdisjoint(_users(node)):
            alive.add(node)
    return [node for node in graph.nodes if node in alive]


def _is_needed(node: fx.Node) -> bool:
    """True of what a forward does whether or not anything uses it."""
    if node.op in ("placeholder", "output", "call_module") or node.target is torch._assert:
        return True
    return node.target is not decide and is_in_place(node)


def _users(node: fx.Node) -> Collection[fx.Node]:
    """The nodes that use a node, or go by what it decides."""
    if node.target is not decide:
        return node.users
    condition = Condition(sizes=str(node.args[1]))
    return [other for other in node.graph.nodes if condition in deciding_on(other)]


def is_in_place(node: fx.Node) -> bool:
    """True if the node changes a tensor that others may read."""
    name = str(node.target if isinstance(node.target, str) else node.target.__name__)
    is_method_of_operators = getattr(operator, name, None) is node.target  # and_, or_
    return (
        (name.endswith("_") and not is_method_of_operators)
        or (node.target in SIGNS and SIGNS[node.target].kind in ("in place", "assignment"))
        or node.kwargs.get("inplace") is True
        or node.kwargs.get("out") is not None
    )


def name_of(node: fx.Node) -> str:
    """The name of a node, which no other has in any way that its forward goes."""
    name: str = node.meta.get(NAME, node.name)
    return name


def function_of(node: fx.Node) -> Any:
    """What a call of a traced forward calls, a method as `Tensor` has it."""
    return getattr(Tensor, str(node.target)) if node.op == "call_method" else node.target


def reads_shape(node: fx.Node) -> bool:
    """True if a node is `x.shape`, `x.size()` or `x.size(1)`."""
    if node.op not in ("call_method", "call_function"):
        return False
    is_attribute = node.target is getattr and node.args[1] == "shape"
    return bool(is_attribute or node.target in ("size", Tensor.size))


# functions of torch that make a tensor of none
_NAMES = "arange empty eye full linspace logspace ones rand randint randn tensor zeros"


FACTORIES = _NAMES.split()


def is_with_network(node: fx.Node) -> bool:
    """True if what a node computes lies where the network does, as it comes of its tensors.

    What a factory makes without a device lies where torch puts it.
    """
    waiting, seen = [node], {node}
    while waiting:
        one = waiting.pop()
        if one.op in ("placeholder", "get_attr", "call_module"):
            return True
        is_made = getattr(one.target, "__name__", "") in FACTORIES
        sources = [one.kwargs.get("device")] if is_made else one.all_input_nodes
        new = [x for x in sources if isinstance(x, fx.Node) and not reads_shape(x)]
        waiting += [source for source in new if source not in seen]
        seen.update(new)
    return False
