"""Copies of modules to run user code on: it changes nothing that the user's own modules hold.

A copy shares parameters, and what nobody changes, with the original. It has attributes, containers
and random number generators of its own, and the functions that it holds see the copy where they
close over the original.
"""

from __future__ import annotations

import copy
import functools
import random
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Mapping
from enum import Enum
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# what nobody changes: most of what modules hold is of these types
_ATOMS = frozenset(
    {
        *(bool, int, float, complex, str, bytes, slice, range, type, type(None), type(...)),
        *(torch.dtype, torch.device, torch.Size, torch.memory_format, torch.layout),
        *(types.BuiltinFunctionType, types.ModuleType, nn.Parameter),
    }
)


_PLAIN = _ATOMS - {nn.Parameter}  # of which no copy has another one


CONTAINERS = (dict, list, set, deque)


GENERATORS = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)


# the attributes of a module that hold what is called with its forward and with its gradients
HOOKS = frozenset(
    {
        *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs"),
        *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
        *("_backward_pre_hooks", "_backward_hooks"),
    }
)


OF_STATE_DICTS = frozenset(
    {
        *("_state_dict_hooks", "_state_dict_pre_hooks"),
        *("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
    }
)


_IN_PYTHON = 1 << 9  # the flag of a class that a class statement has made


_DEEPEST = 3  # objects within objects that are only data


class Isolation:
    """Copies what user code may change, each thing once.

    Args:
        root: the module whose parameters are shared.
        only: the modules that are copied, where not all are.
        own_buffers: whether copies have buffers of their own.
        with_hooks: whether it and the modules in it are copied with their hooks.
        stored: what copies hold in the place of parameters and buffers, by identity of these.
    """

    def __init__(
        self,
        root: nn.Module,
        only: Collection[nn.Module] | None = None,
        own_buffers: bool = False,
        with_hooks: bool = False,
        stored: Mapping[int, Tensor] | None = None,
    ) -> None:
        self._root = root
        self._in_tree = set(map(id, root.modules()))
        self._only = None if only is None else set(map(id, only))
        self._own_buffers = own_buffers or stored is not None
        self._with_hooks = with_hooks
        self._stored = stored or {}
        self._made: dict[int, Any] = {}
        self._held: list[Any] = []  # so that nothing else has the identity of one of them

    @functools.cached_property
    def _shared(self) -> set[int]:
        """The tensors of the module that its copy has as they are."""
        buffers = () if self._own_buffers else self._root.buffers()
        return set(map(id, chain(self._root.parameters(), buffers)))

    def of(self, value: Any) -> Any:
        """What stands for a value: a copy, or itself where nothing in it may change."""
        if type(value) in _ATOMS:
            return self._stored.get(id(value), value)
        if id(value) not in self._made:
            self._held.append(value)
            self._made[id(value)] = self._copied(value)
        return self._made[id(value)]

    def _copied(self, value: Any) -> Any:
        if isinstance(value, nn.Module):
            return self._module(value)
        if isinstance(value, CONTAINERS):
            return self._container(value)
        if isinstance(value, Tensor):
            if id(value) in self._stored:
                return self._stored[id(value)]
            return value if id(value) in self._shared else value.detach().clone()
        if isinstance(value, tuple):
            return self._tuple(value)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            function, owner = self.of(value.__func__), self.of(value.__self__)
            is_same = function is value.__func__ and owner is value.__self__
            return value if is_same else types.MethodType(function, owner)
        if isinstance(value, functools.partial):
            return self._partial(value)
        if isinstance(value, weakref.ref):
            return weakref.ref(self.of(value())) if isinstance(value(), nn.Module) else value
        if isinstance(value, GENERATORS):
            return copied_generator(value)
        return self._object(value) if self._is_data(value) else value

    def _module(self, module: nn.Module) -> nn.Module:
        left = self._only is not None and id(module) not in self._only
        if left or isinstance(module, torch.jit.ScriptModule):
            return module
        copied: nn.Module = object.__new__(type(module))
        self._made[id(module)] = copied
        attributes = copied.__dict__
        has_hooks = self._with_hooks or id(module) not in self._in_tree
        for name, value in vars(module).items():
            kind = type(value)
            if kind in _ATOMS or name in OF_STATE_DICTS:
                attributes[name] = value
            elif name in HOOKS and not has_hooks:
                attributes[name] = OrderedDict()
            elif name == "_compiled_call_impl":  # which would call the original
                attributes[name] = None
            elif name == "_parameters":
                attributes[name] = {key: self._stored.get(id(x), x) for key, x in value.items()}
            elif name == "_buffers" and not self._own_buffers:
                attributes[name] = value.copy()
            elif kind is tuple and _PLAIN.issuperset(map(type, value)):
                attributes[name] = value  # as most tuples of layers, kernel sizes among them
            else:
                attributes[name] = self.of(value)
        return copied

    def _container(self, container: Any) -> Any:
        copied = self._made[id(container)] = copy.copy(container)
        if not container:
            return copied
        if hasattr(container, "__dict__"):
            vars(copied).update((name, self.of(item)) for name, item in vars(container).items())
        if isinstance(container, dict):
            for key, item in container.items():
                dict.__setitem__(copied, key, self.of(item))
        elif isinstance(container, list):
            list.__setitem__(copied, slice(None), list(map(self.of, container)))
        elif isinstance(container, deque):
            for place, item in enumerate(container):
                deque.__setitem__(copied, place, self.of(item))
        return copied

    def _tuple(self, value: Any) -> Any:
        items = list(map(self.of, value))
        if _are(items, value):
            return value
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)

    def _function(self, function: types.FunctionType) -> Any:
        closure, names = function.__closure__ or (), function.__code__.co_names
        named = {name: function.__globals__.get(name) for name in names}
        ours = {name: thing for name, thing in named.items() if id(thing) in self._in_tree}
        if not (closure or ours or function.__defaults__ or function.__kwdefaults__):
            return function
        known = function.__globals__
        if ours:
            known = {**known, **{name: self.of(thing) for name, thing in ours.items()}}
        own = tuple(types.CellType() for _ in closure)
        copied = self._made[id(function)] = types.FunctionType(
            function.__code__, known, function.__name__, None, own or None
        )
        for name in (*functools.WRAPPER_ASSIGNMENTS, "__defaults__", "__kwdefaults__"):
            setattr(copied, name, self.of(getattr(function, name)))
        vars(copied).update(vars(function))
        for cell, theirs in zip(own, closure, strict=True):
            if not is_empty(theirs):
                cell.cell_contents = self.of(theirs.cell_contents)
        before = [*_given(function), *_contents(closure)]
        after = [*_given(copied), *_contents(own)]
        is_same = not ours and _are(after, [copied if v is function else v for v in before])
        return function if is_same else copied

    def _partial(self, value: functools.partial[Any]) -> Any:
        function, args = self.of(value.func), list(map(self.of, value.args))
        keywords = {name: self.of(item) for name, item in value.keywords.items()}
        is_same = _are(args, value.args) and _are(keywords.values(), value.keywords.values())
        if is_same and function is value.func:
            return value
        copied = functools.partial(function, *args, **keywords)
        vars(copied).update(vars(value))
        return copied

    def _is_data(self, value: Any, depth: int = _DEEPEST) -> bool:
        """True if an object of a user's class holds but data and modules, as one that is filled.

        Another one, such as a logger or a trainer, is what it is by being that very one.
        """
        kind = type(value)
        return (
            depth > 0
            and not isinstance(value, type | Enum | nn.Module)
            and all(cls.__flags__ & _IN_PYTHON for cls in kind.__mro__[:-1])
            and hasattr(value, "__dict__")
            and not hasattr(kind, "__del__")
            and all(self._is_plain(item, depth - 1) for item in vars(value).values())
        )

    def _is_plain(self, value: Any, depth: int) -> bool:
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list | tuple | set | deque):
            return all(self._is_plain(item, depth) for item in value)
        is_known = isinstance(value, Tensor) or id(value) in self._in_tree
        return type(value) in _ATOMS or is_known or self._is_data(value, depth)

    def _object(self, value: Any) -> Any:
        copied = self._made[id(value)] = object.__new__(type(value))
        copied.__dict__.update((name, self.of(item)) for name, item in vars(value).items())
        return copied


def copied_generator(generator: Any) -> Any:
    """A generator of random numbers that draws the same as another one, beside it."""
    if not isinstance(generator, torch.Generator):
        return copy.deepcopy(generator)
    copied = torch.Generator(generator.device)
    copied.set_state(generator.get_state())
    return copied


def is_empty(cell: types.CellType) -> bool:
    """True if a function closes over a variable that has no value as yet."""
    try:
        cell.cell_contents  # noqa: B018  # asks
    except ValueError:
        return True
    return False


def _contents(cells: Iterable[types.CellType]) -> list[Any]:
    return [cell.cell_contents for cell in cells if not is_empty(cell)]


def _given(function: types.FunctionType) -> list[Any]:
    """The values that a function has for arguments that it is not given."""
    return [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]


def _are(values: Iterable[Any], others: Iterable[Any]) -> bool:
    return all(value is other for value, other in zip(values, others, strict=True))
