"""A traced forward followed node by node, with channels in the places of its tensors."""

from __future__ import annotations

import inspect
import operator
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from prunecore.channels.names import is_of_torch
from prunecore.channels.records import Trace
from prunecore.channels.signal import Signal, map_signals
from prunecore.channels.sizes import Count
from prunecore.tracing.arguments import called_with, one_by_one
from prunecore.tracing.conditions import TAKEN
from prunecore.tracing.nodes import is_in_place, name_of
from prunecore.walking.computed import Follower
from prunecore.walking.filled import FilledUses, as_met
from prunecore.walking.numbers import Numbers, is_settled


class Interpreter(Follower):
    """What a walk has to do at each node of a trace, beside following modules."""

    @abstractmethod
    def comes_to(self, node: fx.Node) -> None:
        """Note the line of a traced forward that the walk has come to."""

    @abstractmethod
    def follow(self, call: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Follow a function call of the traced forward that the walk is in, by the call's name."""


# Methods of tensors that change their shape in place, and with it what was read of them before.
_SHAPING = """
    as_strided_ resize_ resize_as_ set_ squeeze_ swapaxes_ swapdims_ t_ transpose_ unsqueeze_
"""


def interpret(
    channels: Interpreter, module: nn.Module, graph: fx.Graph, supplied: Mapping[str, Any]
) -> Trace:
    """Follow the channels through a graph.

    Args:
        channels: the walk.
        module: the module that was traced.
        graph: its forward, every child a leaf.
        supplied: what the forward is called with, by parameter name.
    """
    inputs = iter(one_by_one(inspect.signature(module.forward), supplied))
    values: dict[fx.Node, Any] = {}
    numbers = Numbers(channels, values)
    output = None

    def value(leaf: Any) -> Any:
        return values[leaf] if isinstance(leaf, fx.Node) else leaf

    for node in graph.nodes:
        channels.comes_to(node)
        args, kwargs = called_with(node, value)
        uses = FilledUses(channels, node, (args, kwargs), values)
        if node.op == "placeholder":
            values[node] = next(inputs)
        elif node.op == "get_attr":
            holder, _, name = node.target.rpartition(".")
            values[node] = channels.stored(module.get_submodule(holder), name)
        elif node.op == "call_module":
            child = module.get_submodule(node.target)
            values[node] = channels.through(child, *args, **kwargs)
        elif node.op == "output":
            output = map_signals(as_met, args[0])
        elif node.target is torch._assert and isinstance(args[0], Count):
            numbers.state_in(node)  # what it says of the widths no longer holds
        elif node.target is torch._assert and is_settled(node.args[0]):
            graph.erase_node(node)
        elif TAKEN in node.meta:  # on the ways for other sizes it does not hold
            values[node] = None
        elif _begins_a_sum(node, args, module):
            node.replace_all_uses_with(node.args[1])
            graph.erase_node(node)
        else:
            function = node.target
            if node.op == "call_method":
                function = _method(channels, node.target, args[0])
            if (name := function.__name__) in _SHAPING.split():
                plain = name.removesuffix("_")
                channels.refuse(
                    f"its forward changes the shape of a tensor in place, by {name}",
                    f"Write x = x.{plain}(...)."
                    if hasattr(Tensor, plain)
                    else "Go on with another tensor, or set what this one holds by x.copy_(...).",
                )
            values[node] = channels.follow(name_of(node), function, *args, **kwargs)
            numbers.state(node, args)
            if function is not operator.setitem and is_in_place(node) and args:
                _read_afterwards(node, values)
        uses.end(values.get(node))
    return Trace(module, graph, values, output)


def _begins_a_sum(node: fx.Node, args: Sequence[Any], module: nn.Module) -> bool:
    """True for the `0 + x` that Python's `sum` over layers begins with, adding to it at once."""
    if node.target is not operator.add or type(args[0]) is not int or args[0] != 0:
        return False
    added = node.args[1]
    if not isinstance(added, fx.Node) or added.op != "call_module":
        return False
    layer = module.get_submodule(str(added.target))
    # whose outputs are no masks, of which 0 makes numbers
    has_weights = is_of_torch(type(layer)) and any(True for _ in layer.parameters(recurse=False))
    return has_weights and list(node.users) == [node.next] and node.next.target is operator.add


def _read_afterwards(node: fx.Node, values: Mapping[fx.Node, Any]) -> None:
    """Let what reads a computed weight after its change in place read what that returns."""
    changed: Any = node.args[0]
    value = values.get(changed)
    if not isinstance(value, Signal) or not value.computed:
        return
    for user in list(changed.users):
        if user not in values:
            user.replace_input_with(changed, node)


def _method(channels: Interpreter, name: str, of: Any) -> Any:
    if not isinstance(of, Signal) or not hasattr(Tensor, name):
        kind = "a tensor" if isinstance(of, Signal) else type(of).__name__
        channels.refuse(
            f"its forward calls .{name} of {kind}",
            "Write it with a function of torch, or with the operators of Python.",
        )
    return getattr(Tensor, name)
