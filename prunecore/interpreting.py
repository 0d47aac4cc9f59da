"""A traced forward, followed node by node."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx, nn

from prunecore.records import Trace

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
    for node in graph.nodes:
        args = fx.node.map_arg(node.args, values.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, values.__getitem__)
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
        else:
            function = getattr(Tensor, node.target) if node.op == "call_method" else node.target
            values[node] = channels.follow(node.name, function, *args, **kwargs)
    return Trace(module, graph, values, output)


def one_by_one(signature: inspect.Signature, supplied: Mapping[str, Any]) -> list[Any]:
    """The arguments of a forward in the order of a trace's inputs, those of `*args` one by one."""
    parameters = signature.parameters
    return [
        value
        for name, given in supplied.items()
        for value in (
            given if parameters[name].kind is inspect.Parameter.VAR_POSITIONAL else [given]
        )
    ]
