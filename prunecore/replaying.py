"""A traced forward, run again on tensors with some of its function calls replaced."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import fx, nn

from prunecore.supplied import called_with, one_by_one
from prunecore.training import Training


def replay(
    module: nn.Module,
    graph: fx.Graph,
    replaced: Mapping[str, Callable[..., Any]],
    *inputs: Any,
    **keywords: Any,
) -> Any:
    """Run a module's forward as it was traced, in eval mode.

    Args:
        module: a module of the class that was traced; its children and tensors are used.
        graph: the trace, every child a leaf.
        replaced: what is called in the place of functions, by the names of their nodes.
        inputs: what the forward is called with.
        keywords: likewise, by name.
    """
    signature = inspect.signature(type(module).forward)
    _, *supplied = signature.bind(module, *inputs, **keywords).arguments.items()
    given = iter(one_by_one(signature, dict(supplied)))
    values: dict[fx.Node, Any] = {}

    def value(leaf: Any) -> Any:
        if isinstance(leaf, fx.Node):
            return values[leaf]
        return module.training if isinstance(leaf, Training) else leaf

    for node in graph.nodes:
        args, kwargs = called_with(node, value)
        if node.op == "placeholder":
            values[node] = next(given)
        elif node.op == "get_attr":
            holder, _, name = node.target.rpartition(".")
            values[node] = getattr(module.get_submodule(holder), name)
        elif node.op == "output":
            return args[0]
        elif node.op == "call_module":
            values[node] = module.get_submodule(node.target)(*args, **kwargs)
        else:
            is_method = node.op == "call_method"
            function = getattr(type(args[0]), node.target) if is_method else node.target
            values[node] = replaced.get(node.name, function)(*args, **kwargs)
    return None
