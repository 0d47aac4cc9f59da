"""Attributes in which a forward keeps what it has computed until an input of another size comes.

A detector makes its anchors anew where `self.shape != x.shape`. What such attributes hold, because
the network has been run, is taken away before a forward is traced, so that it makes them. That
stands where the trace sets the attributes anew and uses nothing of what they held. Buffers are
attributes, too.
"""

from __future__ import annotations

import dis
import functools
import inspect
import operator
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx, nn

from prunecore.channels.names import is_of_torch
from prunecore.tracing.nodes import reads_shape
from prunecore.tracing.stand_ins.proxies import Known


def remembered(module: nn.Module) -> frozenset[str]:
    """The attributes that hold sizes or tensors, and that methods of the module set."""
    held = _held_by(module)
    cls: Any = type(module)
    own, items = _set_by(cls)
    names = own | {name for name in items if type(held.get(name)) is list}
    return frozenset(name for name in names & held.keys() if _emptied(held[name]) is not held[name])


class UsedError(Exception):
    """A forward computes with what was taken away.

    Attributes:
        name: of the attribute.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class SetAnewError(Exception):
    """A forward sets a buffer to what the next call reads."""


class Forgotten:
    """Attributes of a module that are emptied while its forward is traced.

    Args:
        module: the module; it is changed.
        names: of the attributes.
    """

    def __init__(self, module: nn.Module, names: Collection[str]) -> None:
        self._module = module
        emptied = {name: _emptied(_held_by(module)[name]) for name in names}
        for name, value in emptied.items():
            (module._buffers if name in module._buffers else vars(module))[name] = value
        self._before = {
            name: list(value) if isinstance(value, list) else [value]
            for name, value in emptied.items()
        }

    def check(self, tensor: Tensor) -> None:
        """Check that a tensor that is computed with is none of those.

        Raises:
            UsedError: it is.
        """
        for name, items in self._before.items():
            if any(item is tensor for item in items):
                raise UsedError(name)

    def not_made(self) -> frozenset[str]:
        """The attributes that hold what they did, or what depends on the numbers of an input."""
        return frozenset(name for name in self._before if not self._is_made(name))

    def _is_made(self, name: str) -> bool:
        """True if an attribute, or each item of the list that it holds, is made for a size."""
        now = _held_by(self._module).get(name)
        items: list[Any] = now if type(now) is list else [now]  # no stand-in is asked what it is
        before = self._before[name]
        if len(items) != len(before) or any(map(operator.is_, items, before)):
            return False
        return not any(isinstance(x, Known) and _depends_on_numbers(x.node) for x in items)


def _held_by(module: nn.Module) -> dict[str, Any]:
    """What a module holds by name, its buffers among it."""
    return {**vars(module), **module._buffers}


def _depends_on_numbers(node: fx.Node) -> bool:
    """True if a node is computed of more than the sizes and types of inputs."""
    if node.op in ("placeholder", "call_module"):
        return True
    if reads_shape(node) or node.target is getattr:
        return False
    given = node.all_input_nodes
    name = getattr(node.target, "__name__", str(node.target))
    if name == "type_as":
        given = given[:1]
    if name.startswith("new_") or name.endswith("_like"):
        given = given[1:]
    return any(map(_depends_on_numbers, given))


@functools.cache
def _set_by(cls: Any) -> tuple[frozenset[str], frozenset[str]]:
    """The attributes that methods of a class set, but for its constructor.

    Returns:
        Their names, and those of the attributes that they may set items of.
    """
    own: set[str] = set()
    items: set[str] = set()
    for base in cls.__mro__[:-1]:
        if base is nn.Module or is_of_torch(base):
            continue
        for name, method in vars(base).items():
            if inspect.isfunction(method) and name != "__init__":
                steps = list(dis.get_instructions(method))
                own |= {step.argval for step in steps if step.opname == "STORE_ATTR"}
                if any(step.opname == "STORE_SUBSCR" for step in steps):
                    items |= {step.argval for step in steps if step.opname == "LOAD_ATTR"}
    return frozenset(own), frozenset(items)


def _emptied(value: Any) -> Any:
    """What an attribute holds before anything was computed; the very value where it is nothing."""
    if isinstance(value, torch.Size) or (
        isinstance(value, tuple) and value and all(type(size) is int for size in value)
    ):
        return None
    if type(value) is Tensor:  # of which each size may be asked for
        return torch.empty((0,) * max(value.ndim, 1))
    if type(value) is list and value and all(type(item) is Tensor for item in value):
        return [torch.empty(0) for _ in value]
    return value
