"""What the user's own objects hold, put back after their code has run on them."""

from __future__ import annotations

import functools
import os
import random
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _pop_mode, _push_mode

from prunecore.isolation.copies import CONTAINERS, GENERATORS, HOOKS, copied_generator, is_empty


class ThreadMode(TorchDispatchMode):
    """A mode that sees what is computed in this thread while it is active.

    torch's own notes for the whole process that there is one, and compiles nothing meanwhile; two
    of two threads may leave that note behind. It also imports torch's compiler, in seconds.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # no network that is compiled comes this far

    def __enter__(self) -> Any:
        _push_mode(self)
        return self

    def __exit__(self, *_: object) -> None:
        _pop_mode()


TORCH = f"{Path(str(torch.__file__)).parent}{os.sep}"  # the folder of its code

_DEEPEST = 2  # objects of the user's own classes, one in the other, that are looked into


_HOLDING = (nn.Module, *CONTAINERS, types.CellType, types.FunctionType)
_OTHERS = (type, types.ModuleType, types.MethodType, functools.partial, Tensor)
_CACHE = type(functools.lru_cache(len))
_OF_NUMBERS = (Tensor, _CACHE, *GENERATORS)  # what holds numbers that nobody holds one by one
_PLAIN = (int, float, complex, str, bytes, type(None))


_LONGEST = 10_000  # items of a container that are looked into


@contextmanager
def kept_state(*roots: Any) -> Iterator[None]:
    """Put back what modules and functions hold, and the numbers in the modules' tensors.

    Args:
        roots: as of `kept_contents`.
    """
    with kept_contents(*roots) as contents:
        written = _Written(contents.parameters)
        try:
            with written:
                yield
        finally:
            written.put_back()


@contextmanager
def kept_contents(*roots: Any) -> Iterator[Contents]:
    """Put back what modules, functions and their owners hold; of parameters, not the numbers.

    What the hooks of a module hold is left as it is, unless they are given.

    That is attributes, items of containers, variables that functions close over, containers that
    they name, tensors that are no parameters, and the states of random number generators. What
    `functools.lru_cache` has kept is forgotten if there is more of it now.

    Args:
        roots: modules, and functions that are called.

    Yields:
        All that can be reached of them.
    """
    contents = Contents(roots)
    try:
        yield contents
    finally:
        contents.put_back()


def functions_of(modules: Sequence[nn.Module]) -> set[Any]:
    """The functions of modules that run when these are called: their forwards and what they hold.

    Args:
        modules: whose own attributes nobody else has.
    """
    classes = {cls for module in modules for cls in type(module).__mro__ if cls is not nn.Module}
    places = [*map(vars, modules), *map(vars, classes)]
    held = (value for place in places for value in place.values())
    return {
        *(type(module).forward for module in modules),
        *(value for value in held if isinstance(value, types.FunctionType | _CACHE)),
    }


class Contents:
    """What things hold, each thing once, and all that can be reached of them.

    Args:
        roots: the things.

    Attributes:
        parameters: those among them.
    """

    def __init__(self, roots: Iterable[Any] = ()) -> None:
        self.parameters: list[Tensor] = []
        self._saved: list[tuple[Any, Any]] = []  # a thing, and what it held
        seen: dict[int, Any] = {}
        waiting = [(root, _DEEPEST) for root in roots]
        while waiting:
            thing, depth = waiting.pop()
            if id(thing) not in seen:
                seen[id(thing)] = thing
                waiting += self._save(thing, depth)

    def _save(self, thing: Any, depth: int) -> list[tuple[Any, int]]:
        """Note what a thing holds.

        Args:
            thing: anything.
            depth: how many objects of the user's own classes are looked into, one in the other.

        Returns:
            What is to be looked into next, and how deep.
        """
        if isinstance(thing, nn.Parameter):
            self.parameters.append(thing)
            return []
        if isinstance(thing, Tensor):
            self._saved.append((thing, thing.detach().clone()))
            return []
        if isinstance(thing, GENERATORS):
            self._saved.append((thing, copied_generator(thing)))
            return []
        if isinstance(thing, _CACHE):
            self._saved.append((thing, thing.cache_info().misses))
        elif isinstance(thing, _HOLDING) or _is_users(thing, depth):
            self._saved.append((thing, _held(thing)))
        return parts_of(thing, depth)

    def add(self, thing: Any) -> None:
        """Note what a thing holds, if it is a container or an object of a class of the user's."""
        if isinstance(thing, CONTAINERS) or _is_users(thing, 1):
            self._saved.append((thing, _held(thing)))

    def leaves_numbers(self) -> bool:
        """True if things hold other numbers or words now; all else that is new is put back."""
        things = [pair for pair in self._saved if not isinstance(pair[0], _OF_NUMBERS)]
        changed = [(thing, held) for thing, held in things if not _are(_held(thing), held)]
        leave = [_leaves_numbers(thing, held) for thing, held in changed]  # each is put back
        return any(leave)

    def put_back(self) -> None:
        """Let each thing hold again what it did."""
        for thing, held in self._saved:
            if isinstance(thing, Tensor):
                _put_back_numbers(thing, held)
            elif isinstance(thing, _CACHE):
                if thing.cache_info().misses != held:  # what it has is of other types, or traced
                    thing.cache_clear()
            elif isinstance(thing, torch.Generator):
                thing.set_state(held.get_state())
            elif isinstance(thing, random.Random):
                thing.setstate(held.getstate())
            elif isinstance(thing, np.random.Generator):
                thing.bit_generator.state = held.bit_generator.state
            elif isinstance(thing, np.random.RandomState):
                thing.set_state(held.get_state())
            elif not _are(_held(thing), held):
                _put_back(thing, held)


class _Written(ThreadMode):  # type: ignore[no-untyped-call]
    """Keeps the numbers of parameters that are written to, as of an embedding with `max_norm`.

    Only those: a copy of all would take as much memory as the network.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        super().__init__()
        self._by_place: dict[int, list[Tensor]] = {}
        for parameter in parameters:
            self._by_place.setdefault(_place(parameter), []).append(parameter)
        self._saved: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation; before it writes to a parameter, keep what that holds."""
        kwargs = kwargs or {}
        if func._schema.is_mutable:
            for argument, value in zip(func._schema.arguments, args, strict=False):
                if argument.is_write:
                    self._keep(value)
            for argument in func._schema.arguments:
                if argument.is_write and argument.name in kwargs:
                    self._keep(kwargs[argument.name])
        return func(*args, **kwargs)

    def _keep(self, written: Any) -> None:
        for tensor in pytree.tree_leaves(written):
            for parameter in self._by_place.pop(_place(tensor), ()):
                self._saved.append((parameter, parameter.detach().clone()))

    def put_back(self) -> None:
        """Write the numbers of before to the parameters that have others now."""
        for parameter, numbers in self._saved:
            _put_back_numbers(parameter, numbers)


def parts_of(thing: Any, depth: int = _DEEPEST) -> list[tuple[Any, int]]:
    """What can be reached of a thing in one step, and how deep to look into each.

    Args:
        thing: anything.
        depth: how many objects of the user's own classes are looked into, one in the other.
    """
    within: list[Any] = []
    if isinstance(thing, _CACHE):
        within = [thing.__wrapped__]
    elif isinstance(thing, types.FunctionType):
        within = _reached_of(thing)
    elif isinstance(thing, types.MethodType):
        within = [thing.__func__, thing.__self__]
    elif isinstance(thing, functools.partial):
        within = [thing.func, thing.args, thing.keywords]
    elif isinstance(thing, weakref.ref):
        within = [thing()]
    elif isinstance(thing, tuple):
        within = list(thing)
    elif isinstance(thing, nn.Module):
        held = [value for name, value in vars(thing).items() if name not in HOOKS]
        within = [type(thing).forward, type(thing).__call__, *held]
    elif isinstance(thing, (*CONTAINERS, types.CellType)):
        within = _values(thing)
    elif _is_users(thing, depth):
        depth -= 1
        within = [*([type(thing).__call__] if callable(thing) else []), *_values(thing)]
    return [(part, depth) for part in within]


def _values(thing: Any) -> list[Any]:
    held = _held(thing)
    return [part for item in held for part in item] if len(held) <= _LONGEST else []


def _is_users(thing: Any, depth: int) -> bool:
    """True if a thing is an object of a class of the user's that is to be looked into."""
    return depth > 0 and hasattr(thing, "__dict__") and not isinstance(thing, _OTHERS)


def _reached_of(function: types.FunctionType) -> list[Any]:
    """What a function holds and closes over, its defaults, and what it names that may change."""
    given = [function.__defaults__, function.__kwdefaults__]
    held = [*(function.__closure__ or ()), *given, *vars(function).values()]
    if function.__code__.co_filename.startswith(TORCH):
        return held
    named = [function.__globals__.get(name) for name in function.__code__.co_names]
    kinds = (*CONTAINERS, types.FunctionType, _CACHE, nn.Module)
    return [*held, *(thing for thing in named if isinstance(thing, kinds))]


def _place(tensor: Tensor) -> int:
    """Where the memory of a tensor begins; views of one tensor lie at one place."""
    return tensor.untyped_storage().data_ptr()


def _held(thing: Any) -> list[tuple[Any, ...]]:
    """What a container, an object or a variable of a function holds, item by item."""
    if isinstance(thing, dict):
        return list(thing.items())
    if isinstance(thing, CONTAINERS):
        return [(item,) for item in thing]
    if isinstance(thing, types.CellType):
        return [] if is_empty(thing) else [(thing.cell_contents,)]
    return list(vars(thing).items())


def _are(items: Sequence[tuple[Any, ...]], others: Sequence[tuple[Any, ...]]) -> bool:
    """True if two things hold the very same, in one order."""
    return len(items) == len(others) and all(
        part is other
        for item, its_other in zip(items, others, strict=True)
        for part, other in zip(item, its_other, strict=True)
    )


def _leaves_numbers(thing: Any, held: list[Any]) -> bool:
    """True if a thing holds other numbers or words than before; all else that is new is put back.

    Of a dictionary or an object, item by item.
    """
    if isinstance(thing, (*CONTAINERS, types.CellType)) and not isinstance(thing, dict):
        if not all(is_plain(part) for item in _held(thing) for part in item):
            _put_back(thing, held)
        now, before = list(enumerate(_held(thing))), dict(enumerate(held))
    else:
        items, before = thing if isinstance(thing, dict) else vars(thing), dict(held)
        others = {key for key, x in items.items() if x is not before.get(key) and not is_plain(x)}
        kept = [(key, x) for key, x in items.items() if key not in others]
        _put_back_items(items, [*kept, *((key, before[key]) for key in others & before.keys())])
        now = list(items.items())
    return len(now) != len(before) or not all(
        key in before and is_same(value, before[key]) for key, value in now
    )


def is_same(value: Any, other: Any) -> bool:
    """True if two values are one thing, or equal numbers or words."""
    return value is other or (is_plain(value) and is_plain(other) and value == other)


def is_plain(value: Any) -> bool:
    """True of a number or word, and of a tuple of such: no stand-in is asked what it is."""
    kind = type(value)
    return issubclass(kind, _PLAIN) or (kind is tuple and all(map(is_plain, value)))


def _put_back(thing: Any, held: list[Any]) -> None:
    if isinstance(thing, types.CellType):
        if held:
            ((thing.cell_contents,),) = held
        else:
            del thing.cell_contents
    elif isinstance(thing, list):
        list.__setitem__(thing, slice(None), [item for (item,) in held])
    elif isinstance(thing, set):
        set.intersection_update(thing, [item for (item,) in held])
        set.update(thing, [item for (item,) in held])
    elif isinstance(thing, deque):
        deque.clear(thing)
        deque.extend(thing, [item for (item,) in held])
    else:
        _put_back_items(thing if isinstance(thing, dict) else vars(thing), held)


def _put_back_items(items: dict[Any, Any], held: list[Any]) -> None:
    """One by one: other threads may be reading those that have not changed."""
    kind = OrderedDict if isinstance(items, OrderedDict) else dict
    before = dict(held)
    for key in [key for key in items if key not in before]:
        kind.__delitem__(items, key)
    for key, value in held:
        if key not in items or items[key] is not value:
            kind.__setitem__(items, key, value)
    if list(items) != list(before):
        kind.clear(items)
        kind.update(items, held)


def _put_back_numbers(tensor: Tensor, numbers: Tensor) -> None:
    with torch.no_grad():
        if tensor.shape != numbers.shape:
            tensor.data = numbers
        elif not torch.equal(tensor, numbers):
            tensor.copy_(numbers)
