"""Arguments that a forward is called with, as its trace sees them."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from prunecore.channels.signal import Signal
from prunecore.tracing.modules.attributes import TrainingFlag

# (name of the parameter, its default if it has one) -> what stands for the argument in the trace
Placeholder = Callable[[str, tuple[Any, ...]], fx.Proxy]


def is_constant(value: Any) -> bool:
    """True if an argument chooses what a forward does: `None`, a flag, a word, a type.

    It is part of the trace, as a default would be, and no argument of the written forward. A number
    is none of these, since it may be a size. `self.training` is one: what it is handed on to is in
    that mode, too.
    """
    constants = (bool, str, TrainingFlag, torch.dtype, torch.memory_format)
    return value is None or isinstance(value, constants)


class Given(dict[str, Any]):
    """What a forward is called with, by name, what it takes as `**kwargs` among the others.

    Attributes:
        by_place: how many of its arguments are given by place.
    """

    by_place: int = 0


def given_to(signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Given:
    """What a forward is called with, by name.

    Args:
        signature: of the forward, without the module itself.
        args: what it is called with, by place.
        kwargs: likewise, by name.

    Raises:
        TypeError: it takes no such arguments.
    """
    given = Given(signature.bind(*args, **kwargs).arguments)
    given.by_place = len(args)
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            given.update(given.pop(name, {}))
    return given


def by_place(supplied: Mapping[str, Any]) -> int:
    """How many of a forward's arguments are given by place; all, where that is not told."""
    return supplied.by_place if isinstance(supplied, Given) else len(supplied)


def constants(supplied: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call that are constants other than `None`, by name."""
    return {
        name: "self.training" if isinstance(value, TrainingFlag) else value
        for name, value in supplied.items()
        if is_constant(value) and value is not None
    }


def absent_from(signature: inspect.Signature, supplied: Mapping[str, Any]) -> frozenset[str]:
    """The arguments that are `None` in a call: given so, or by default.

    Args:
        signature: of the forward, without the module itself.
        supplied: the arguments that are given, by parameter name.
    """
    defaults = {name: parameter.default for name, parameter in signature.parameters.items()}
    return frozenset(name for name, value in {**defaults, **supplied}.items() if value is None)


def named_by_place(module: nn.Module, args: Sequence[Any]) -> list[tuple[str, Any]]:
    """What a module is called with by place, by its forward's names; what is of `*args` by none."""
    names = list(inspect.signature(module.forward).parameters)
    places = [*names[: len(args)], *[""] * (len(args) - len(names))]
    return list(zip(places, args, strict=True))


def without_constants(
    module: nn.Module, chosen: Collection[str], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a module but for those that are part of its forward as it is written.

    Args:
        module: the original.
        chosen: the names of its constants.
        args: what it is called with.
        kwargs: likewise, by name.
    """
    if not chosen:
        return tuple(args), dict(kwargs)
    left = tuple(arg for name, arg in named_by_place(module, args) if name not in chosen)
    return left, {name: arg for name, arg in kwargs.items() if name not in chosen}


def arguments(
    signature: inspect.Signature, supplied: Mapping[str, Any], places: int, placeholder: Placeholder
) -> tuple[list[Any], dict[str, Any]]:
    """What a forward is traced with, by place and by name.

    Args:
        signature: of the forward, without the module itself.
        supplied: the arguments that are given, by parameter name.
        places: how many of them are given by place.
        placeholder: makes the trace's inputs.
    """
    positional: list[Any] = []
    keywords: dict[str, Any] = {}

    def seen(name: str, *default: Any) -> Any:
        value = supplied[name]
        return value if is_constant(value) else _unpacked(placeholder(name, default), value)

    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            count = len(supplied.get(name, ()))
            positional += [placeholder(f"{name}_{i}", ()) for i in range(count)]
        elif parameter.kind is parameter.VAR_KEYWORD:
            others = supplied.keys() - signature.parameters.keys()
            keywords |= {other: seen(other) for other in supplied if other in others}
        elif name in supplied:
            default = () if parameter.default is parameter.empty else (parameter.default,)
            if len(positional) < places and parameter.kind is not parameter.KEYWORD_ONLY:
                positional.append(seen(name, *default))
            else:
                keywords[name] = seen(name, *default)
    return positional, keywords


def one_by_one(signature: inspect.Signature, supplied: Mapping[str, Any]) -> list[Any]:
    """The arguments of a forward in the order of a trace's inputs, those of `*args` one by one."""
    kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
    values: list[Any] = []
    for name, given in supplied.items():
        if kinds.get(name) is inspect.Parameter.VAR_POSITIONAL:
            values += given
        elif not is_constant(given):
            values.append(given)
    return values


def called_with(node: fx.Node, leaf: Callable[[Any], Any]) -> tuple[Any, Any]:
    """The arguments and keywords that a node calls something with.

    Args:
        node: the call; the lists in it are made anew, as what is called may change its own.
        leaf: what stands for each node that it uses, and for any other argument.
    """

    def given(value: Any) -> Any:
        if isinstance(value, list):
            return list(map(given, value))
        if isinstance(value, dict):
            return {key: given(item) for key, item in value.items()}
        if type(value) is tuple:
            return tuple(map(given, value))
        return fx.node.map_aggregate(value, leaf)  # slices and named tuples among them

    return given(node.args), given(node.kwargs)


def put_together(graph: fx.Graph, supplied: Mapping[str, Any]) -> None:
    """Let a trace hand on a list that its forward was given as that list, not item by item.

    Args:
        graph: the trace; it is changed.
        supplied: the arguments that are given, by parameter name.
    """
    given: dict[tuple[Any, ...], fx.Node] = {}
    for node in graph.nodes:
        value = supplied.get(str(node.target)) if node.op == "placeholder" else None
        if isinstance(value, list) and value:
            items = {user.args[1]: user for user in node.users if user.target is operator.getitem}
            given[tuple(items.get(place) for place in range(len(value)))] = node

    def whole(value: Any) -> Any:
        if isinstance(value, list) and all(isinstance(item, fx.Node) for item in value):
            return given.get(tuple(value), value)
        if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
            return type(value)(map(whole, value))
        return value

    for node in graph.nodes:
        node.args = tuple(map(whole, node.args))
        node.kwargs = {name: whole(value) for name, value in node.kwargs.items()}
    for taken in given:
        for item in taken:
            if item is not None and not item.users:
                graph.erase_node(item)


def _unpacked(proxy: Any, value: Any) -> Any:
    """Collections of tensors or words as such, so that a forward may go through them."""
    leaves = pytree.tree_leaves(value)
    if is_constant(value):
        return value
    if not any(isinstance(leaf, Signal | Tensor | str) for leaf in leaves):
        return proxy
    if isinstance(value, dict):
        return {key: _unpacked(proxy[key], item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unpacked(proxy[i], item) for i, item in enumerate(value)]
    if type(value) is tuple:
        return tuple(_unpacked(proxy[i], item) for i, item in enumerate(value))
    return proxy
