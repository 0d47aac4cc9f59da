"""Which nodes of a traced forward do something, and which are only computed."""

from __future__ import annotations

import operator

import torch
from torch import fx, nn

from prunecore.expressions import INPLACE


def is_dead(node: fx.Node) -> bool:
    """Whether nothing uses the node, and computing it changes nothing."""
    if node.op in ("placeholder", "output", "call_module") or node.target is torch._assert:
        return False
    return not is_in_place(node) and all(is_dead(user) for user in node.users)


def is_in_place(node: fx.Node) -> bool:
    """Whether the node changes a tensor that others may read."""
    name = str(node.target if isinstance(node.target, str) else node.target.__name__)
    is_method_of_operators = getattr(operator, name, None) is node.target  # and_, or_
    return (
        (name.endswith("_") and not is_method_of_operators)
        or node.target in INPLACE
        or node.kwargs.get("inplace") is True
    )


def mixes(module: nn.Module) -> bool:
    """Whether a module has children or weights of its own of two axes or more."""
    if any(True for _ in module.children()):
        return True
    return any(parameter.ndim > 1 for parameter in module.parameters(recurse=False))
