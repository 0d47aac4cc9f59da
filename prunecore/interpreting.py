"""A traced forward, followed node by node."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from prunecore.effects import is_in_place
from prunecore.records import Trace
from prunecore.signal import Signal
from prunecore.sizes import Count
from prunecore.supplied import called_with, one_by_one

if TYPE_CHECKING:
    from prunecore.channels import Channels


def interpret(
    channels: Channels, module: nn.Module, graph: fx.Graph, supplied: Mapping[str, Any]
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
    output = None

    def value(leaf: Any) -> Any:
        return values[leaf] if isinstance(leaf, fx.Node) else leaf

    for node in graph.nodes:
        channels.comes_to(node)
        args, kwargs = called_with(node, value)
        if node.op == "placeholder":
            values[node] = next(inputs)
        elif node.op == "get_attr":
            holder, _, name = node.target.rpartition(".")
            values[node] = channels.stored(module.get_submodule(holder), name)
        elif node.op == "call_module":
            child = module.get_submodule(node.target)
            values[node] = channels.through(child, *args, **kwargs)
        elif node.op == "output":
            output = args[0]
        elif node.target is torch._assert and isinstance(args[0], Count):
            graph.erase_node(node)  # what it says of the widths no longer holds
        else:
            function = node.target
            if node.op == "call_method":
                function = _method(channels, node.target, args[0])
            values[node] = channels.follow(node.name, function, *args, **kwargs)
            if is_in_place(node) and args and isinstance(args[0], Signal) and args[0].computed:
                _read_afterwards(node, values)
    return Trace(module, graph, values, output)


def _read_afterwards(node: fx.Node, values: Mapping[fx.Node, Any]) -> None:
    """Let what reads a tensor after its change in place read what that returns."""
    changed = node.args[0]
    assert isinstance(changed, fx.Node)
    for user in list(changed.users):
        if user not in values:
            user.replace_input_with(changed, node)


def _method(channels: Channels, name: str, of: Any) -> Any:
    if not isinstance(of, Signal) or not hasattr(Tensor, name):
        kind = "a tensor" if isinstance(of, Signal) else type(of).__name__
        channels.refuse(
            f"its forward calls .{name} of {kind}",
            "Write it with a function of torch, or with the operators of Python.",
        )
    return getattr(Tensor, name)
