"""The `torch.fx` tracer of one level, every child a leaf, and the proxies that it makes."""

from __future__ import annotations

import builtins
import dataclasses
import functools
import inspect
import operator
import sys
from collections.abc import (
    Callable,
    Collection,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    ValuesView,
)
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from prunecore.channels.signal import Signal
from prunecore.tracing.arguments import arguments
from prunecore.tracing.attributes import DeviceType, contexts
from prunecore.tracing.draws import OwnDraws
from prunecore.tracing.factories import Made, MadeTensors
from prunecore.tracing.guards import Decider, Undecided
from prunecore.tracing.in_place import AUGMENTED
from prunecore.tracing.module_hooks import Hook, call_with
from prunecore.tracing.nodes import OF_HOOK
from prunecore.tracing.source_lines import LINE, LocalNames, file_of, running_line


def forward_of(module: nn.Module) -> Callable[..., Any]:
    """The function that is a module's forward: its class's, one of its methods, or another."""
    chosen = vars(module).get("forward", type(module).forward)
    while isinstance(chosen, functools.partial):
        chosen = chosen.func
    function: Callable[..., Any] = getattr(chosen, "__func__", chosen)
    return function


def is_of_class(module: nn.Module) -> bool:
    """Whether a module's forward is a method of its class: some choose one of several."""
    chosen = vars(module).get("forward")
    return chosen is None or (
        inspect.ismethod(chosen)
        and chosen.__self__ is module
        and getattr(type(module), chosen.__name__, None) is chosen.__func__
    )


@dataclasses.dataclass(frozen=True)
class Within:
    """What belongs to a trace beside the forward of the module that is traced.

    Attributes:
        hooks: those that are followed, with the path of the module that they are called with; by
            the module, a child.
        inlined: children whose forward is a part of the trace.
        is_whole: whether it tells of all that calling the module does, not of its forward alone.
        followed: paths of the modules whose hooks have been called.
    """

    hooks: Mapping[nn.Module, tuple[str, Sequence[Hook]]]
    inlined: Collection[nn.Module]
    is_whole: bool
    followed: set[str]


class FollowedHookError(Exception):
    """A hook cannot be followed.

    Attributes:
        path: of the module that it is called with.
        module: the module.
        hook: the hook.
    """

    def __init__(self, path: str, module: nn.Module, hook: Hook) -> None:
        super().__init__(path, module, hook)
        self.path, self.module, self.hook = path, module, hook


class NotHeldError(Exception):
    """A forward calls a layer that no module of the network holds, such as one in a plain list."""


def _call_whole(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    return module(*args, **kwargs)


def _call_forward(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    return module.forward(*args, **kwargs)


class OneLevel(fx.Tracer):
    """Traces a module's own forward; only the arguments that are supplied become placeholders.

    Args:
        module: the module.
        supplied: the arguments of its forward that are given, by parameter name.
        within: what else belongs to the trace.
        in_training: the mode that it is traced in.

    Attributes:
        draws: the random numbers that the forward has drawn.
        asking: the variables of the modules of Python whose code has asked what a stand-in is, and
            had no answer.
    """

    proxy_buffer_attributes = True  # what a forward computes of buffers is part of it

    def __init__(
        self, module: nn.Module, supplied: Mapping[str, Any], within: Within, in_training: bool
    ) -> None:
        super().__init__()
        self.asking: list[dict[str, Any]] = []
        self.supplied = supplied
        self._within = within
        self._in_hooks = 0  # how many are running, one within the other
        self.decider = Decider(module, supplied, in_training)
        self._contexts = contexts()
        self.outdated: set[fx.Node] = set()  # what holds lists that the forward has changed
        self._file = file_of(forward_of(module))
        self._names = LocalNames(self._file)
        self.draws = OwnDraws()
        self.made = MadeTensors(self.draws)
        self._making: dict[tuple[int, int], fx.Node] = {}  # by identity and version of a tensor
        stored = next(chain(module.named_parameters(), module.named_buffers()), None)
        self._device = None if stored is None else stored[1].device
        self._given: fx.Node | None = None  # the first tensor that the forward is given

    def create_node(
        self, kind: str, target: Any, args: Any, kwargs: Any, *names: Any, **named: Any
    ) -> fx.Node:
        """A node that knows the line of the forward that it stands for, and what it is called."""
        if contexts() != self._contexts:
            raise RuntimeError(
                "it computes under torch.no_grad or autocast, which its trace does not tell"
            )
        if "_stacklevel" in kwargs:  # that of a warning
            kwargs = {name: value for name, value in kwargs.items() if name != "_stacklevel"}
        if kind in ("call_function", "call_method"):  # torch takes a range as a list
            args, kwargs = fx.node.map_aggregate((args, kwargs), _range_as_list)
        node = super().create_node(kind, target, args, kwargs, *names, **named)
        if kind == "output":
            self._names.end()
        elif kind != "placeholder":  # which no line of it makes
            node.meta[LINE] = running_line(self._file)
            node.meta[OF_HOOK] = self._in_hooks > 0
            self._names.note()
        return node

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Every child is."""
        return True

    def create_args_for_root(
        self,
        root_fn: Callable[..., Any],
        is_module: bool,
        concrete_args: dict[str, Any] | tuple[Any, ...] | None = None,
    ) -> tuple[Any, list[Any]]:
        """The forward, or all that calling the module does; and what it is called with."""
        signature = inspect.signature(self.root.forward)
        positional, keywords = arguments(signature, self.supplied, self._placeholder)
        function = _call_whole if self._within.is_whole else _call_forward
        return functools.partial(function, **keywords), [self.root, *positional]

    def create_arg(self, a: Any) -> Any:
        """What a node is given: a named tuple as it is, not as the call that makes it."""
        if isinstance(a, Known):
            a = a.as_argument()
        if isinstance(a, fx.Node):
            return a
        if isinstance(a, np.generic):
            return a.item()
        if self.is_own(a) and self._given is not None:
            return self.create_node("call_function", getattr, (self._given, "device"), {})
        if isinstance(a, tuple) and hasattr(a, "_fields"):
            return type(a)(*map(self.create_arg, a))
        if type(a) is Tensor and not any(a is buffer for _, buffer in self.root.named_buffers()):
            made = self.made.how(a) or self.made.literal(a, self.root)
            if made is not None:
                return self._making.get((id(a), a._version)) or self._make(a, made)
        return super().create_arg(a)

    def _make(self, tensor: Tensor, made: Made) -> fx.Node:
        """A node that makes a tensor as the forward has made it."""
        kind = "call_method" if isinstance(made.function, str) else "call_function"
        args, kwargs = self.create_arg(made.args), self.create_arg(dict(made.kwargs))
        node = self.create_node(kind, made.function, args, kwargs)
        self._making[id(tensor), tensor._version] = node
        self._names.note_made(node, tensor)
        return node

    def path_of_module(self, mod: nn.Module) -> str:
        """The path of a child that is called.

        Raises:
            NotHeldError: no attribute holds it.
        """
        try:
            return super().path_of_module(mod)
        except NameError as error:
            raise NotHeldError(f"it calls a {type(mod).__name__} that it does not hold") from error

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """A node for a child that is called; what is made for the call is its own forward.

        That is a part of a child, as `self.features[:4]`, or a layer without tensors of its own.
        With the call come the hooks of the child that are followed.
        """
        if self.decider.is_computing or not (m is self.root or self._is_child(m)):
            return forward(*args, **kwargs)
        is_part = m is self.root or m in self._within.inlined
        inner = m.forward if is_part else functools.partial(self._call_leaf, m, forward)
        path, hooks = self._within.hooks.get(m, ("", ()))
        run = functools.partial(self._run_hook, m, path)
        return call_with(hooks, run, inner, args, kwargs)

    def _call_leaf(self, module: nn.Module, forward: Any, *args: Any, **kwargs: Any) -> Any:
        result = super().call_module(module, forward, args, kwargs)
        give(result.node, (args, kwargs), self.decider)
        return result

    def _run_hook(self, module: nn.Module, path: str, hook: Hook, *given: Any) -> Any:
        """Call a hook that is followed.

        Raises:
            FollowedHookError: it raises something, as it is given no tensors.
        """
        self._within.followed.add(path)
        self._in_hooks += 1
        try:
            return hook.function(module, *given)
        except Exception as error:  # whatever it raises when it meets a stand-in
            raise FollowedHookError(path, module, hook) from error
        finally:
            self._in_hooks -= 1

    def _is_child(self, module: nn.Module) -> bool:
        """Whether a module is a child of what is traced; only one without tensors need not be.

        Raises:
            NotHeldError: it is none, and has tensors.
        """
        try:
            self.path_of_module(module)
        except NotHeldError:
            if [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
                raise
            return False
        return True

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        """A node for a parameter or buffer that is read."""
        if self.decider.is_computing:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Which way a branch goes, where sizes decide it."""
        try:
            return self.decider.decide(obj)
        except Undecided:
            return super().to_bool(obj)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """What stands for a node."""
        return Known(node, self)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """What a loop over a traced value goes through."""
        return items_of(obj, self.known(obj))

    def known(self, proxy: fx.Proxy) -> Any:
        """What stands behind a proxy, tensors without storage; `None` if that is not known."""
        if isinstance(proxy, Known) and proxy.changed is not None:
            return pytree.tree_map_only(fx.Proxy, self.known, proxy.changed)
        try:
            return self.decider.known(proxy)
        except Undecided:
            return None

    def is_own(self, value: Any) -> bool:
        """Whether a value is the device that the module's tensors are on, and so all others."""
        return isinstance(value, torch.device) and value == self._device

    def _placeholder(self, name: str, default: tuple[Any, ...]) -> fx.Proxy:
        proxy = self.create_proxy("placeholder", name, default, {})
        if self._given is None and isinstance(self.supplied.get(name), Signal):
            self._given = proxy.node
        return proxy


# Methods of lists that change them, or make another of them.
_OF_LISTS = ("append", "clear", "copy", "extend", "insert", "pop", "remove", "reverse")


class ChangedListError(Exception):
    """A forward reads a list that has become another one since."""


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
    __array_ufunc__ = None  # numbers of NumPy leave their operators to it
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
            self.tracer.asking.append(asking.f_globals)
            raise Asked
        return type(self)

    @classmethod
    def __torch_function__(
        cls, orig_method: Any, types: Any, args: Any = None, kwargs: Any = None
    ) -> Any:
        """A node for a function of torch; any proxy tells which trace that is for."""
        return fx.Proxy.__torch_function__(orig_method, types, args, kwargs)

    def is_any(self, kinds: Any) -> bool:
        """Whether it stands for a tensor or a collection of these kinds."""
        value = self.tracer.known(self)
        return isinstance(value, Tensor | list | tuple | dict) and isinstance(value, kinds)

    def __len__(self) -> int:
        """How many items a tuple, list or dictionary has.

        Raises:
            RuntimeError: it is something else.
        """
        value = self.tracer.known(self) if self.changed is None else self.changed
        return len(value) if isinstance(value, list | tuple | dict) else super().__len__()

    def __rmul__(self, other: Any) -> Any:
        """A size once is that size, as products of sizes begin."""
        if type(other) is int and other == 1 and isinstance(self.tracer.known(self), int):
            return self
        return super().__rmul__(other)  # type: ignore[misc] # torch.fx gives it to the class later

    # There is no __index__: functions of torch would ask for it, to which a size is one as it is.

    def __int__(self) -> int:
        return int(self._number())

    def __float__(self) -> float:
        return float(self._number())

    def __round__(self, digits: int | None = None) -> Any:
        return round(self._number(), digits)

    def __getitem__(self, key: Any) -> Any:
        if self.changed is not None:
            return self.changed[key]
        if isinstance(key, int) and self.given_to and self.is_any(list):
            self._check(self.given_to)
        if isinstance(key, int) and self.node.op == "call_module" and self._fields():
            key = list(self.tracer.known(self))[key]  # such a dictionary is a tuple, too
        return super().__getitem__(key)  # type: ignore[misc]  # fx gives proxies their operators

    def __setitem__(self, key: Any, value: Any) -> None:
        self._as_list()[key] = value

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
        if not hasattr(Tensor, k) and k in self._fields():
            value = self.tracer.known(self)
            return self[k] if k in value else getattr(value, k)
        return _KINDS.get(k, KnownAttribute)(self, k)

    def _fields(self) -> list[str]:
        """The attributes of a dictionary that is a dataclass, too; what is None is no item."""
        value = self.tracer.known(self)
        is_both = isinstance(value, dict) and dataclasses.is_dataclass(value)
        return [field.name for field in dataclasses.fields(value)] if is_both else []

    def _number(self) -> Any:
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
                raise TypeError("it sets places of what is no list")
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

    def __getattr__(self, k: str) -> KnownAttribute:
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


class _To(KnownAttribute):
    """Stands for `x.to`, which to where all tensors are returns what it is asked of."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if "copy" in kwargs:
            return super().__call__(*args, **kwargs)
        args = tuple(value for value in args if not self._is_there(value))
        kwargs = {name: value for name, value in kwargs.items() if not self._is_there(value)}
        if args or kwargs.keys() - {"non_blocking"}:
            return super().__call__(*args, **kwargs)
        return self.root

    def _is_there(self, value: Any) -> bool:
        return isinstance(value, _Device) or self.tracer.is_own(value)


class _Rank(KnownAttribute):
    """Stands for `x.ndim`, by which a forward may look something up."""

    def __hash__(self) -> int:
        return hash(self.tracer.known(self))


_KINDS: Mapping[str, type[KnownAttribute]] = {
    "device": _Device,
    "ndim": _Rank,
    "to": _To,
}


def give(call: fx.Node, given: Any, decider: Decider) -> None:
    """Note that a submodule is given these arguments: it may change the lists among them.

    Args:
        call: of the submodule.
        given: its arguments, stand-ins and collections of such.
        decider: knows whether it does.

    Raises:
        ChangedListError: it fills an empty list, of which there is nothing to be read as yet.
    """
    if isinstance(given, Known):
        if given.changed is None:
            given.given_to = (*given.given_to, call)
            return
        given = given.changed
    if isinstance(given, list) and decider.changes_lists(call):
        if not given:
            raise ChangedListError(f"it has {call.target} fill a list")
        given[:] = [_listed(item, call) for item in given]
    if isinstance(given, list | tuple | dict):
        for item in given.values() if isinstance(given, dict) else given:
            give(call, item, decider)


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
    what = "the first axis of a tensor" if is_tensor else "what is not known before it runs"
    raise fx.proxy.TraceError(f"it goes through {what}")


def without_views(graph: fx.Graph) -> None:
    """Take out what only gave a dictionary's keys or values to a loop, which has its items now.

    Args:
        graph: the trace; it is changed.
    """
    for node in graph.nodes:
        is_view = node.op == "call_method" and node.target in ("keys", "values", "items")
        if is_view and not node.users:
            graph.erase_node(node)


def _range_as_list(leaf: Any) -> Any:
    return list(leaf) if isinstance(leaf, range) else leaf
