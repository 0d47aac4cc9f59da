"""The proxies of a trace, which stand for tensors, numbers and lists as far as these are known."""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import dis
import functools
import operator
import sys
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    ValuesView,
)
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from prunecore.tracing.guards import Decider, Undecided
from prunecore.tracing.in_place import AUGMENTED
from prunecore.tracing.modules.attributes import DeviceType
from prunecore.tracing.nodes import is_with_network
from prunecore.tracing.source_lines import may_stand_in
from prunecore.tracing.stand_ins.numpy_functions import OF_NUMBERS, OF_NUMPY
from prunecore.tracing.stand_ins.torch_functions import THROUGH, gone_through

# Methods of lists that change them, or make another of them.
_OF_LISTS = ("append", "clear", "copy", "extend", "insert", "pop", "remove", "reverse")


class ChangedListError(Exception):
    """A forward reads a list that has become another one since."""


class SetPlacesError(TypeError):
    """A forward sets places of a tensor."""


class SetDataError(TypeError):
    """A forward gives a tensor other data than it had."""


class Asked(BaseException):
    """A forward asks what a stand-in is, which is to be answered as if it were the real thing."""


class Known(fx.Proxy):
    """Stands for what a node computes.

    Attributes:
        changed: the list that it stands for, once the forward has changed it.
        given_to: the calls of submodules that were given it.
        listed_for: the calls that were given a list which it is an item of.
    """

    tracer: Any
    is_nested = False  # a network that is pruned is given rectangles
    _is_param = _is_buffer = False  # which torch asks of what becomes an attribute of a module
    changed: list[Any] | None = None
    given_to: tuple[fx.Node, ...] = ()
    listed_for: tuple[fx.Node, ...] = ()

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """What `isinstance` looks at, Python's and that of torch in C, before it says no.

        Raises:
            Asked: the module of Python that asks has no `isinstance` of its own as yet.
        """
        asking = sys._getframe(1)
        if asking.f_code is not is_any.__code__ and "isinstance" not in asking.f_globals:
            self.tracer.asking.append((asking.f_globals, "isinstance"))
            raise Asked
        return type(self)

    @classmethod
    def __torch_function__(
        cls, orig_method: Any, types: Any, args: Any = None, kwargs: Any = None
    ) -> Any:
        """A node for a function of torch; any proxy tells which trace that is for."""
        if orig_method in THROUGH:
            return gone_through(orig_method)(*args, **(kwargs or {}))
        return fx.Proxy.__torch_function__(orig_method, types, args, kwargs)

    def __array_ufunc__(self, function: Any, method: str, *given: Any, **options: Any) -> Any:
        """An operator with a number of NumPy's is Python's; its functions take a number."""
        if options or method != "__call__" or any(isinstance(x, np.ndarray) for x in given):
            return NotImplemented
        if operation := OF_NUMPY.get(function):
            return operation(*(x.item() if isinstance(x, np.generic) else x for x in given))
        is_known = isinstance(self.tracer.known(self), int | float)
        if is_known and function in OF_NUMBERS and self.tracer.computes_numbers:
            return self.tracer.create_proxy("call_function", OF_NUMBERS[function], given, {})
        return function(*(x.as_number() if isinstance(x, Known) else x for x in given))

    def __array__(self, *_: Any, **__: Any) -> np.ndarray[Any, Any]:
        """An array of the numbers that it stands for, with which NumPy computes one by one.

        Raises:
            TypeError: it is something else.
        """
        if not isinstance(self.tracer.known(self), list | tuple):
            raise TypeError("it makes an array of NumPy's of what is no sizes")
        numbers = list(self)
        array = np.empty(len(numbers), dtype=object)
        for place, number in enumerate(numbers):
            array[place] = number
        return array

    @property
    def is_cuda(self) -> bool:
        """Whether it is there, in the one of two traces that has asked."""
        return bool(self.tracer.is_on_cuda())

    @property
    def requires_grad(self) -> bool:
        """That of a parameter; what is computed needs none, as where a network is used."""
        return bool(self.tracer.requires_grad(self.node))

    @requires_grad.setter
    def requires_grad(self, value: Any) -> None:
        self.tracer.create_proxy("call_method", "requires_grad_", (self, value), {})

    @property
    def data(self) -> Any:
        """The tensor without a gradient."""
        return KnownAttribute(self, "data")

    @data.setter
    def data(self, value: Any) -> None:
        raise SetDataError("it sets the .data of a tensor to that of another")

    def is_any(self, kinds: Any) -> bool:
        """True if it stands for a tensor, a number or a collection of these kinds."""
        return isinstance(self.tracer.known(self), kinds)

    def __len__(self) -> int:
        """How many items a tuple, list or dictionary has.

        Raises:
            Asked: it is a tensor, and the module of Python that asks has no `len` of its own.
            TypeError: it is something else.
        """
        value = self.tracer.known(self) if self.changed is None else self.changed
        if isinstance(value, list | tuple | dict):
            return len(value)
        asking = sys._getframe(1).f_globals
        if isinstance(value, Tensor) and "len" not in asking:
            self.tracer.asking.append((asking, "len"))
            raise Asked
        raise TypeError("it asks for the length of what is not known before it runs")

    def __eq__(self, other: object) -> Any:
        return False if other is None else fx.Proxy.__eq__(self, other)

    def __ne__(self, other: object) -> Any:
        return True if other is None else fx.Proxy.__ne__(self, other)

    def __hash__(self) -> int:
        """That of the number that it stands for, by which a forward looks something up.

        What depends on the batch is found nowhere, as in a cache for each size.
        """
        number = self._number()
        return fx.Proxy.__hash__(self) if number is None else hash(number)

    def __str__(self) -> str:
        """The number that it stands for as text, by which a forward looks something up."""
        number = self._number()
        return repr(self) if number is None else str(number)

    def _number(self) -> Any:
        """The number that it stands for; `None` of all else, and of what depends on the batch."""
        if isinstance(self.tracer.known(self), int | float):
            with contextlib.suppress(TypeError):
                return self.as_number()
        return None

    def _product(self, **_: Any) -> Any:
        """That of the sizes that it stands for, as `np.prod` and `torch.Size` call it."""
        return functools.reduce(operator.mul, self, 1)

    def __format__(self, spec: str) -> str:
        """Within a message, which no network depends on; as a number where it is to be one."""
        return format(self.as_number(), spec) if spec else repr(self)

    def __rmul__(self, other: Any) -> Any:
        """A size once is that size, as products of sizes begin."""
        if type(other) is int and other == 1 and isinstance(self.tracer.known(self), int):
            return self
        return super().__rmul__(other)  # type: ignore[misc] # torch.fx gives it to the class later

    # There is no __index__: functions of torch would ask for it, to which a size is one as it is.

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Nothing that it stands for can be called: code that does so has asked `callable`."""
        self._ask("callable")
        return super().__call__(*args, **kwargs)

    def __int__(self) -> int:
        self._ask("int")
        return int(self.as_number())

    def __float__(self) -> float:
        self._ask("float")
        return float(self.as_number())

    def __round__(self, digits: int | None = None) -> Any:
        if digits is not None or not self.tracer.computes_numbers:
            return round(self.as_number(), digits)
        return self.tracer.create_proxy("call_function", round, (self,), {})

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def _ask(self, name: str) -> None:
        """Ask for a function of numbers in the place of Python's own, where there may be one.

        Raises:
            Asked: there is none as yet.
        """
        variables = sys._getframe(2).f_globals
        if self.tracer.computes_numbers and may_stand_in(variables, name):
            self.tracer.asking.append((variables, name))
            raise Asked

    def __iter__(self) -> Iterator[Any]:
        """As torch's own does, which reads all of the code that asks for items each time."""
        frame = sys._getframe(1)
        code, place = frame.f_code.co_code, frame.f_lasti
        if dis.opname[code[place]] != "UNPACK_SEQUENCE":
            return iter(self.tracer.iter(self))
        is_long = dis.opname[code[place - 2]] == "EXTENDED_ARG"
        return (self[item] for item in range(code[place + 1] + (code[place - 1] << 8) * is_long))

    def __getitem__(self, key: Any) -> Any:
        if self.changed is not None:
            return self.changed[key]
        if isinstance(key, int) and self.given_to and self.is_any(list):
            self._check(self.given_to)
        if isinstance(key, int) and self.node.op == "call_module" and self._is_tuple():
            key = list(self.tracer.known(self))[key]  # such a dictionary is a tuple, too
        if isinstance(key, int | str) and self._holds_constant(key):
            return self.tracer.known(self)[key]
        return super().__getitem__(key)  # type: ignore[misc]  # fx gives proxies their operators

    def __setitem__(self, key: Any, value: Any) -> None:
        """`ys[0] = y` changes a list, `y[:, 0] = x` places of a tensor.

        Raises:
            SetPlacesError: it is something else, or the places have numbers of several axes.
        """
        if isinstance(self.tracer.known(self), list | tuple | dict):
            self._as_list()[key] = value
            return
        if any(map(self._is_grid, key if type(key) is tuple else (key,))):
            raise SetPlacesError("it sets places by computed numbers that lie along several axes")
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})

    def _is_grid(self, item: Any) -> bool:
        """True if an index is computed, and no mask, but numbers along several axes."""
        if not isinstance(item, Known) or item.node.op == "get_attr":
            return False
        known = self.tracer.known(item)
        return isinstance(known, Tensor) and known.dtype is not torch.bool and known.ndim > 1

    def __delitem__(self, key: Any) -> None:
        del self._as_list()[key]

    def __iadd__(self, other: Any) -> Any:
        """`ys += [y]` changes a list."""
        if type(other) is not list:
            return _augmented(operator.iadd)(self, other)
        self._as_list().extend(other)
        return self

    def __getattr__(self, k: str) -> Any:
        if k in _OF_LISTS and self.is_any(list):
            return getattr(self._as_list(), k)
        if k in ("numel", "prod") and self.is_any(tuple):
            return self._product
        if k.startswith("__array_"):  # by which NumPy would read memory
            raise AttributeError(k)
        if not hasattr(Tensor, k) and k in self._fields():
            value = self.tracer.known(self)
            return self[k] if k in value else getattr(value, k)
        return _KINDS.get(k, KnownAttribute)(self, k)

    def _holds_constant(self, key: int | str) -> bool:
        """True if it stands for what a child returns, which has `None` or a word there."""
        holder: Any = self.node
        while holder.target is operator.getitem:
            holder = holder.args[0]
        if holder.op != "call_module":
            return False
        value = self.tracer.known(self)
        try:
            return isinstance(value, list | tuple | dict) and isinstance(value[key], str | None)  # type: ignore[index]
        except LookupError:
            return False

    def _is_tuple(self) -> bool:
        """True if it stands for a dictionary that gives items by their places, too."""
        return bool(self._fields()) and dataclasses.is_dataclass(self.tracer.known(self))

    def _fields(self) -> list[str]:
        """The attributes of a dictionary that is a dataclass, too; what is None is no item.

        Other dictionaries may have their items for attributes.
        """
        value = self.tracer.known(self)
        if not isinstance(value, dict) or type(value) is dict:
            return []
        fields = getattr(value, "__dataclass_fields__", None)
        if fields is not None:
            return list(fields)
        items = [(key, item) for key, item in value.items() if isinstance(key, str)]
        return [key for key, item in items if getattr(value, key, None) is item]

    def as_number(self) -> Any:
        """The number that it stands for, where Python needs one: the trace is for that alone."""
        try:
            return self.tracer.decider.number(self)
        except Undecided as error:
            raise TypeError(
                "it makes a number of the batch, or of what shapes do not tell"
            ) from error

    def as_argument(self) -> Any:
        """What a node is given in its place: the list that it has become, or its own node.

        Raises:
            ChangedListError: what it stands for, or is an item of, is no longer that.
        """
        if self.changed is not None:
            return self.changed
        if self.node in self.tracer.outdated:
            raise ChangedListError("it reads what holds a list that it has changed")
        self._check(self.listed_for)
        return self.node

    def _check(self, calls: Iterable[fx.Node]) -> None:
        for call in calls:
            if self.tracer.decider.changes_lists(call):
                raise ChangedListError(f"it reads a list that {call.target} has changed")

    def _as_list(self) -> list[Any]:
        """The list that it stands for, to be changed."""
        if self.changed is None:
            if not self.is_any(list):
                raise SetPlacesError("it sets an item of what is no list or tensor")
            self.changed = list(items_of(self, self.tracer.known(self)))
            holder: Any = self.node
            while holder.target is operator.getitem:
                holder = holder.args[0]
                self.tracer.outdated.add(holder)
        return self.changed


def _augmented(function: Callable[..., Any]) -> Callable[[Known, Any], Any]:
    """The method of stand-ins for `x += y`, say."""
    return lambda self, y: self.tracer.create_proxy("call_function", function, (self, y), {})


for _function in AUGMENTED:
    if not hasattr(Known, f"__{_function.__name__}__"):
        setattr(Known, f"__{_function.__name__}__", _augmented(_function))


def is_any(value: Any, kinds: Any, /) -> bool:
    """Python's `isinstance`, by which stand-ins are what they stand for."""
    is_of = builtins.isinstance  # this module may have one of its own, which is this function
    return is_of(value, kinds) or (is_of(value, Known) and value.is_any(kinds))


class KnownAttribute(fx.proxy.Attribute, Known):
    """Stands for an attribute, perhaps a method."""

    def __getattr__(self, k: str) -> Any:
        if k == "numel" and self.is_any(tuple):  # that of a shape
            return self._product
        return KnownAttribute(self, k)


class _Device(KnownAttribute):
    """Stands for `x.device`, which knows its kind, and that all tensors are on one."""

    type = DeviceType("cpu")

    def __eq__(self, other: object) -> Any:
        is_same = isinstance(other, _Device) or self.tracer.is_own(other)
        return is_same or fx.Proxy.__eq__(self, other)

    def __ne__(self, other: object) -> Any:
        is_same = isinstance(other, _Device) or self.tracer.is_own(other)
        return not is_same and fx.Proxy.__ne__(self, other)

    __hash__ = fx.Proxy.__hash__


def _named_device(value: Any) -> Any:
    return torch.device(value) if isinstance(value, str) else value


class _To(KnownAttribute):
    """Stands for `x.to`, which to where all tensors are returns what it is asked of.

    From an input to where the parameters are, or back, it is called: the caller's may be elsewhere.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        args = tuple(map(_named_device, args))
        kwargs = {name: _named_device(value) for name, value in kwargs.items()}
        if "copy" in kwargs or not is_with_network(self.root.node):
            return super().__call__(*args, **kwargs)
        args = tuple(value for value in args if not self._is_there(value))
        kwargs = {name: value for name, value in kwargs.items() if not self._is_there(value)}
        if args or kwargs.keys() - {"non_blocking"}:
            return super().__call__(*args, **kwargs)
        return self.root

    def _is_there(self, value: Any) -> bool:
        if isinstance(value, _Device):
            there: Any = value.node.args[0]
            return (there.op == "get_attr") is (self.root.node.op == "get_attr")
        return bool(self.tracer.is_own(value))


class _Index(_Device):
    """Stands for `x.get_device()`, which is -1 where that is none of cuda's."""

    def _is_on_cuda(self, other: object, bound: int) -> bool:
        if other != bound:
            raise TypeError("it asks which one of several devices a tensor is on")
        return bool(self.tracer.is_on_cuda())

    def __ge__(self, other: object) -> bool:
        return self._is_on_cuda(other, 0)

    def __gt__(self, other: object) -> bool:
        return self._is_on_cuda(other, -1)

    def __lt__(self, other: object) -> bool:
        return not self >= other

    def __le__(self, other: object) -> bool:
        return not self > other

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Index) or not self > other

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = _Device.__hash__


class _Cuda(KnownAttribute):
    """Stands for `x.cuda`, which moves `x` to where all tensors are."""

    def __call__(self, *_: Any, **__: Any) -> Any:
        return self.root if is_with_network(self.root.node) else self.tracer.move(self.root)


class _GetDevice(KnownAttribute):
    """Stands for `x.get_device`."""

    def __call__(self) -> Any:
        return _Index(self.root, "device")


class _Rank(KnownAttribute):
    """Stands for `x.ndim`, by which a forward may look something up."""

    def __hash__(self) -> int:
        return hash(self.tracer.known(self))


_KINDS: Mapping[str, type[KnownAttribute]] = {
    "cuda": _Cuda,
    "device": _Device,
    "get_device": _GetDevice,
    "ndim": _Rank,
    "to": _To,
}


def give(call: fx.Node, given: Any, decider: Decider, path: tuple[Any, ...] = ()) -> None:
    """Note that a submodule is given these arguments: it may change the lists among them.

    Args:
        call: of the submodule.
        given: its arguments, stand-ins and collections of such.
        decider: knows whether it does.
        path: where they are among all that it is given.

    Raises:
        ChangedListError: it changes a list of which nothing is known then.
    """
    if isinstance(given, Known):
        if given.changed is None:
            given.given_to = (*given.given_to, call)
            return
        given = given.changed
    if isinstance(given, list) and decider.changes_lists(call):
        _change(call, given, decider.changed_by(call, path))
    if isinstance(given, list | tuple | dict):
        items = given.items() if isinstance(given, dict) else enumerate(given)
        for key, item in items:
            give(call, item, decider, (*path, key))


def _change(call: fx.Node, given: list[Any], after: list[Any]) -> None:
    """Let a list be what a submodule may have made of it.

    Args:
        call: of the submodule.
        given: the list.
        after: what it is after the call, tensors without storage.

    Raises:
        ChangedListError: it has other items then that are no words.
    """
    if all(isinstance(item, str) for item in after):
        given[:] = after
        return
    kept = [item for item in given if type(item) is not Known]  # read as they are
    if not given or (kept and len(after) != len(given)):
        raise ChangedListError(f"it has {call.target} change a list")
    given[:] = [_listed(item, call) for item in given]


def _listed(item: Any, call: fx.Node) -> Any:
    """An item of a list that a submodule was given, as it is read from that list afterwards."""
    if type(item) is not Known:
        return item
    known = Known(item.node, item.tracer)
    known.changed, known.given_to = item.changed, item.given_to
    known.listed_for = (*item.listed_for, call)
    return known


def items_of(proxy: Any, value: Any) -> Iterator[Any]:
    """What a loop over a traced value goes through: keys as they are, stand-ins for values.

    Args:
        proxy: stands for it.
        value: what it is, its tensors without storage.

    Raises:
        TraceError: it has no number of items that shapes tell.
    """
    if proxy.changed is not None:
        return iter(proxy.changed)
    if isinstance(value, list | tuple):
        return (proxy[place] for place in range(len(value)))
    if isinstance(value, dict | KeysView):
        return iter(list(value))
    if isinstance(value, ValuesView | ItemsView):
        held = proxy.tracer.proxy(proxy.node.args[0])  # whose method gave it
        items = [(key, held[key]) for key in held]
        return iter([item for _, item in items] if isinstance(value, ValuesView) else items)
    is_tensor = isinstance(value, Tensor)
    if is_tensor and value.ndim and proxy.tracer.decider.is_stored(proxy.node):
        return (proxy[place] for place in range(len(value)))
    what = "the first axis of a tensor" if is_tensor else "what is not known before it runs"
    raise fx.proxy.TraceError(f"it goes through {what}")
