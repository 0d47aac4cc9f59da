"""Traces that serve several modules: blocks of one class, with the same options and shapes."""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Collection, Hashable, Mapping, Set
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from prunecore.channels.names import named_modules
from prunecore.channels.signal import Signal
from prunecore.escaping import plain_text
from prunecore.tracing.modules.attributes import TrainingFlag, options_of
from prunecore.tracing.modules.code import code_of, methods_of, names_in
from prunecore.tracing.modules.scopes import mentioned
from prunecore.tracing.ways.train_eval import TrainEval

# what tells by its text all that a forward can ask of it
_PLAIN = frozenset(
    {
        *(bool, int, float, complex, str, bytes, type(None)),
        *(torch.dtype, torch.device, torch.Size, torch.memory_format, torch.layout),
    }
)


# what is the same wherever it is that very one
_BY_IDENTITY = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)


# by which a forward would read the numbers in tensors, or which of several modules it is
_TELLING = frozenset(
    {
        *("parameters", "named_parameters", "buffers", "named_buffers", "state_dict"),
        *("_parameters", "_buffers", "_modules", "__dict__", "vars", "globals", "id", "hash"),
    }
)


def likeness(
    module: nn.Module, supplied: Mapping[str, Any], by_sizes: bool = True
) -> Hashable | None:
    """What is equal for calls of modules that have the same trace.

    Args:
        module: a module.
        supplied: the arguments of its forward that are given, by parameter name.
        by_sizes: whether sizes make a difference: of what it holds, of what it is given, and those
            that the layers in it have as options. A forward that asks for none is the same for all.

    Returns:
        Its class, options and shapes, those of the modules in it, and what it is given; `None`
        where it may hold, ask or do something else.
    """
    cls: Any = type(module)
    names = _names_in(cls)
    if names is None:
        return None
    leaves, structure = pytree.tree_flatten(dict(supplied))
    metas = _Places()
    given = tuple(
        (*_of_meta(leaf.meta, by_sizes), leaf.is_of_weights, metas[leaf.meta])
        if isinstance(leaf, Signal)
        else _told(leaf)
        for leaf in leaves
    )
    if None in given or not (by_sizes or _asks_no_layer(module, names)):
        return None
    inside = _inside(module, names, by_sizes)
    return None if inside is None else (str(structure), given, inside)


class _Places(dict[int, int]):
    """Numbers that are the same for the very same thing, in the order in which things come."""

    def __getitem__(self, thing: Any) -> int:
        return self.setdefault(id(thing), len(self))


def _of_meta(x: Tensor, by_sizes: bool) -> tuple[Hashable, ...]:
    return (x.shape, x.stride(), x.dtype) if by_sizes else (x.ndim, x.dtype)


def _asks_no_layer(module: nn.Module, names: Set[str]) -> bool:
    """True if a forward runs no code of the modules in its own but by calling them as they are.

    Args:
        module: whose forward it is.
        names: those in its code.
    """
    return names.isdisjoint(_SPELLING) and all(
        name not in names and (name in _DESCRIBING or not name.startswith("__"))
        for kind in set(map(type, module.modules())) - {type(module)}
        for name in _methods_in(kind)
    )


# by which a forward would read what is named nowhere in its code
_SPELLING = frozenset({"getattr", "attrgetter", "__getattribute__", "eval", "exec", "repr", "str"})


# methods that no sign of Python's calls, as `len(layer)` or `layer[0]` would
_DESCRIBING = ("__repr__", "__setstate__", "__getstate__", "__dir__", "__deepcopy__")


@functools.cache
def _methods_in(kind: Any) -> Collection[str]:
    """The names of a class's methods, but for those of torch's lists, which hold no options."""
    lists = (*nn.Module.__mro__, nn.Sequential, nn.ModuleList, nn.ModuleDict)
    methods = {name for name, _ in methods_of(base for base in kind.__mro__ if base not in lists)}
    return methods | {"forward"}


def _inside(module: nn.Module, names: Collection[str], by_sizes: bool = True) -> Hashable | None:
    """What a module is made of, and what it holds; `None` where nothing tells that.

    Args:
        module: the module.
        names: those that its forward reads.
        by_sizes: whether sizes make a difference.
    """
    places = _Places()
    parts = []
    for path, part in named_modules(module, remove_duplicate=False):
        options = []
        for name, value in options_of(part):
            is_unread = path != "" and name not in names
            if is_unread and not by_sizes and _is_size(value):
                continue
            told = _told(value, is_chance=is_unread and _draws(name))
            if told is None:
                return None
            options.append((name, told))
        stored = [
            (name, places[x], None if x is None else _of_tensor(x, by_sizes))
            for registry in (part._parameters, part._buffers)
            for name, x in registry.items()
        ]
        what = type(part), places[part], part.training
        parts.append((path, *what, tuple(options), tuple(stored)))
    return tuple(parts)


def _of_tensor(x: Tensor, by_sizes: bool) -> Hashable:
    return type(x), *_of_meta(x, by_sizes), x.device, x.requires_grad


def _is_size(value: Any) -> bool:
    """True for a whole number, or several: a width, a kernel, a stride."""
    return type(value) is int or (type(value) is tuple and set(map(type, value)) == {int})


def _draws(name: str) -> bool:
    """True for the name of an option that tells how likely something is: `p`, `drop_prob`."""
    return name == "p" or "drop" in name


def _told(value: Any, is_chance: bool = False) -> str | int | None:
    """A text or number by which values are the same; `None` where nothing tells that.

    Args:
        value: an option.
        is_chance: whether it is how likely a child does something, and the forward does not read
            it. A child that is run for its shapes does the same for all between 0 and 1.
    """
    kind = type(value)
    if kind is float and is_chance and 0 < value < 1:
        return "a chance"
    if kind is TrainingFlag:
        return "self.training"
    if kind in _PLAIN:
        return f"{kind.__name__} {plain_text(value)}"
    if kind in (tuple, list) and _PLAIN.issuperset(map(type, value)):
        return repr((kind, [(type(item), plain_text(item)) for item in value]))
    return id(value) if isinstance(value, _BY_IDENTITY) else None


@functools.cache
def _names_in(cls: Any) -> Set[str] | None:
    """The names in a forward that goes by its module's options and shapes, and changes nothing.

    As far as the code of the class's methods tells, which may be kept for good: it is theirs.

    Returns:
        The names; `None` where it may do something else.
    """
    methods = methods_of(base for base in cls.__mro__ if base not in nn.Module.__mro__)
    codes = code_of(function for _, function in methods)
    steps = {step.opname for code in codes for step in dis.get_instructions(code)}
    names = mentioned(cls, ()) | names_in(codes)
    is_fine = steps.isdisjoint(("STORE_GLOBAL", "STORE_ATTR")) and names.isdisjoint(_TELLING)
    return names if is_fine else None


class Kept:
    """A trace as it is made, whatever becomes of its nodes while it is followed."""

    def __init__(self, traced: TrainEval) -> None:
        self._eval = _Nodes(traced.eval)
        self._training = _Nodes(traced.training) if traced.differ and traced.training else None
        self._is_whole = traced.training is not None

    def copy(self) -> TrainEval:
        """The same for another module, with nodes of its own."""
        graph = self._eval.graph()
        if self._training is not None:
            return TrainEval(graph, self._training.graph())
        return TrainEval(graph, graph if self._is_whole else None)


class _Nodes:
    def __init__(self, graph: fx.Graph) -> None:
        self._tracer = graph._tracer_cls
        self._names = (
            set(graph._graph_namespace._used_names),
            dict(graph._graph_namespace._base_count),
        )
        self._held = [(x, x.args, x.kwargs, dict(x.meta)) for x in graph.nodes]

    def graph(self) -> fx.Graph:
        """A graph of nodes like these, of the same names."""
        copied = fx.Graph(tracer_cls=self._tracer)
        made: dict[fx.Node, fx.Node] = {}
        for node, args, kwargs, meta in self._held:
            given = fx.node.map_arg((args, kwargs), made.__getitem__)
            made[node] = copied.create_node(node.op, node.target, *given, node.name, node.type)
            made[node].meta = dict(meta)
        used, counts = self._names
        copied._graph_namespace._used_names |= used
        copied._graph_namespace._base_count |= counts
        return copied
