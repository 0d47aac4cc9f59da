"""The `torch.fx` tracer of one level: the forward of a module, every child a leaf."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import operator
import re
import sys
from collections.abc import (
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from itertools import chain
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from prunecore.channels.names import join, named_buffers, named_modules
from prunecore.channels.signal import Signal
from prunecore.errors import a_kind
from prunecore.functions.table import SIGNS
from prunecore.isolation.random_states import OwnDraws
from prunecore.tracing.arguments import arguments, by_place
from prunecore.tracing.checks import of_finite, way_past
from prunecore.tracing.contexts import UNDER, Contexts
from prunecore.tracing.guards import Decider, Undecided
from prunecore.tracing.memories import Forgotten
from prunecore.tracing.modules.attributes import TrainingFlag
from prunecore.tracing.modules.forwards import forward_of, may_return_none
from prunecore.tracing.modules.module_hooks import Hook, call_with, hooks_of
from prunecore.tracing.source_lines import (
    LINE,
    LocalNames,
    asked_to_choose,
    file_of,
    running_line,
)
from prunecore.tracing.stand_ins.factories import Made, MadeTensors
from prunecore.tracing.stand_ins.proxies import Asked, Known, give, items_of


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


class HandedOnError(TypeError):
    """A forward hands what is neither a tensor nor a collection of some on to what it calls."""

    def __init__(self, thing: Any) -> None:
        super().__init__(f"it hands {a_kind(thing)} on as an argument")


class HandedModuleError(HandedOnError):
    """A forward hands a module on to what it calls."""


def _call_whole(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    return module(*args, **kwargs)


def _call_forward(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    return module.forward(*args, **kwargs)


def _call_registered(
    module: nn.Module,
    hooks: Sequence[Hook],
    forward: Callable[..., Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    def run(hook: Hook, *given: Any) -> Any:
        return hook.function(module, *given)

    return call_with(hooks, run, forward, args, kwargs)


class OneLevel(fx.Tracer):
    """Traces a module's own forward; only the arguments that are supplied become placeholders.

    Args:
        module: the module.
        supplied: the arguments of its forward that are given, by parameter name.
        within: what else belongs to the trace.
        in_training: the mode that it is traced in.
        on_cuda: what it is told where it asks whether its tensors are there.
        forced: which ways its first branches on sizes go, whatever these are.

    Attributes:
        asks_cuda: whether it has asked that.
        by_sizes: whether the trace depends on the sizes of tensors, as far as is known.
        hooked: paths of the children that it calls and that hold modules which the forward has
            registered hooks on.
        forgotten: the attributes of the module that are emptied meanwhile.
        unmade: those of them that the forward has not made anew.
        draws: the random numbers that the forward has drawn.
        contexts: the blocks that it is in.
        asking: the variables of the modules of Python whose code has asked what a stand-in is, and
            had no answer, with the function of Python that it has called.
    """

    proxy_buffer_attributes = True  # what a forward computes of buffers is part of it

    def __init__(
        self,
        module: nn.Module,
        supplied: Mapping[str, Any],
        within: Within,
        in_training: bool,
        on_cuda: bool = False,
        forced: Sequence[bool] = (),
    ) -> None:
        super().__init__()
        self.asking: list[tuple[dict[str, Any], str]] = []
        self.supplied = supplied
        self._within = within
        self.draws = OwnDraws()
        self.decider = Decider(module, supplied, in_training, forced, self.draws)
        self.contexts = Contexts()
        self.on_cuda = on_cuda
        self.asks_cuda = False
        self.by_sizes = True
        self.hooked: set[str] = set()
        self.forgotten = Forgotten(module, ())
        self.unmade: frozenset[str] = frozenset()
        self.buffers: list[Tensor] = []  # what the module holds before the forward sets any anew
        self.computes_numbers = True  # of sizes, rather than note what they are
        self.outdated: set[fx.Node] = set()  # what holds lists that the forward has changed
        self._file = file_of(forward_of(module))
        self._names = LocalNames(self._file)
        self.made = MadeTensors(self.draws, self.move, self._stand_in, self._check)
        self._making: dict[tuple[int, int], fx.Node] = {}  # by identity and version of a tensor
        stored = next(chain(module.named_parameters(), module.named_buffers()), None)
        self._device = None if stored is None else stored[1].device
        self._given: fx.Node | None = None  # the first tensor that the forward is given

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """The graph of a module's forward.

        torch looks twice through all that the module holds, which takes longer than most forwards:
        it is given none of its children before `create_args_for_root`.
        """
        self._children, vars(root)["_modules"] = root._modules, {}
        return super().trace(root, concrete_args)

    def _see_children(self) -> None:
        """Give the module its children, and note what torch notes of what it holds."""
        vars(self.root)["_modules"] = self._children
        self.submodule_paths = {module: path for path, module in named_modules(self.root)}
        kinds: dict[type, bool] = {}  # whether values of a type may be read as constants
        pending = [("", self.root)]
        while pending:
            place, module = pending.pop()
            for key, value in vars(module).items():
                kind = type(value)
                if kind not in kinds:
                    kinds[kind] = issubclass(kind, _CONSTANTS)
                if kinds[kind]:
                    self.tensor_attrs[value] = join(place, key)
            children = [*module.named_children()] if module._modules else []
            pending += [(join(place, key), child) for key, child in reversed(children)]

    def create_node(
        self, kind: str, target: Any, args: Any, kwargs: Any, *names: Any, **named: Any
    ) -> fx.Node:
        """A node that knows the line of the forward that it stands for, and what it is called."""
        under = self.contexts.check()
        if "_stacklevel" in kwargs:  # that of a warning
            kwargs = {name: value for name, value in kwargs.items() if name != "_stacklevel"}
        if kind in ("call_function", "call_method"):  # torch takes a range as a list
            args, kwargs = fx.node.map_aggregate((args, kwargs), _range_as_list)
        if target is torch._assert:
            args, kwargs = fx.node.map_aggregate((args, kwargs), _without_proxies)
        if kind == "call_function" and None in args and _computes(target):
            raise TypeError(f"unsupported operand type for {SIGNS[target].text}: 'NoneType'")
        node = super().create_node(kind, target, args, kwargs, *names, **named)
        if kind == "output":
            self._names.end()
        elif kind != "placeholder":  # which no line of it makes
            node.meta[LINE] = running_line(self._file)
            node.meta[UNDER] = under
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
        self._see_children()
        signature = inspect.signature(self.root.forward)
        flag = self.root.training  # its own, which knows when it is read
        given = {
            name: flag if isinstance(value, TrainingFlag) else value
            for name, value in self.supplied.items()
        }
        positional, keywords = arguments(
            signature, given, by_place(self.supplied), self._placeholder
        )
        function = _call_whole if self._within.is_whole else _call_forward
        # older torch asks what it is given for its annotations, which a partial does not have
        return lambda *placed: function(*placed, **keywords), [self.root, *positional]

    def create_arg(self, a: Any) -> Any:
        """What a node is given: a named tuple as it is, not as the call that makes it."""
        if isinstance(a, Known):
            a = a.as_argument()
        if isinstance(a, fx.Node):
            return a
        if isinstance(a, np.generic):
            return a.item()
        if isinstance(a, type(torch.FloatTensor)):
            return a.dtype
        if self.is_own(a) and self._given is not None:
            return self.device().node
        if isinstance(a, tuple) and hasattr(a, "_fields"):
            return type(a)(*map(self.create_arg, a))
        if isinstance(a, nn.Module):
            raise HandedModuleError(a)
        if type(a) is Tensor:
            self.forgotten.check(a)
        if type(a) is Tensor and not self._is_stored(a):
            made = self.made.how(a, self.root) or self.made.literal(a, self.root)
            if made is not None:
                return self._making.get((id(a), a._version)) or self._make(a, made)
        try:
            return super().create_arg(a)
        except NotImplementedError as error:
            raise HandedOnError(a) from error

    def _stand_in(self, tensor: Tensor) -> fx.Proxy:
        """What stands for a tensor that the forward has made."""
        node: fx.Node = self.create_arg(tensor)
        return self.proxy(node)

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
            raise NotHeldError(f"it calls {a_kind(mod)} that it does not hold") from error

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """A node for a child that is called; what is made for the call is its own forward.

        That is a part of a child, as `self.features[:4]`, or a layer without tensors of its own.
        With the call come the hooks of the child that are followed.
        """
        if self.decider.is_computing or not (m is self.root or self._is_child(m)):
            return forward(*args, **kwargs)
        is_part = m is self.root or m in self._within.inlined
        inner = m.forward if is_part else functools.partial(self._call_leaf, m, forward)
        if not is_part and any(hooks_of(one) for _, one in named_modules(m) if one is not m):
            self.hooked.add(self.path_of_module(m))
        registered = hooks_of(m)  # by the forward itself, as copies have none
        inner = functools.partial(_call_registered, m, registered, inner) if registered else inner
        path, hooks = self._within.hooks.get(m, ("", ()))
        run = functools.partial(self._run_hook, m, path)
        return call_with(hooks, run, inner, args, kwargs)

    def _call_leaf(self, module: nn.Module, forward: Any, *args: Any, **kwargs: Any) -> Any:
        result = super().call_module(module, forward, args, kwargs)
        give(result.node, (args, kwargs), self.decider)
        if may_return_none(forward_of(module)):
            with contextlib.suppress(Undecided):
                if self.decider.value(result.node) is None:
                    return None
        return result

    def _run_hook(self, module: nn.Module, path: str, hook: Hook, *given: Any) -> Any:
        """Call a hook that is followed.

        Raises:
            FollowedHookError: it raises something, as it is given no tensors.
        """
        self._within.followed.add(path)
        try:
            return hook.function(module, *given)
        except Exception as error:  # whatever it raises when it meets a stand-in
            raise FollowedHookError(path, module, hook) from error

    def _is_child(self, module: nn.Module) -> bool:
        """True if a module is a child of what is traced; only one without tensors need not be.

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
        if not isinstance(attr_val, Tensor):
            return attr_val
        is_buffer = any(attr_val is buffer for _, buffer in named_buffers(self.root))
        if self.decider.is_computing or (is_buffer and not self._is_stored(attr_val)):
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def _check(self, tensor: Any) -> None:
        """Check that what another tensor is made of is not what an emptied attribute held."""
        self.forgotten.check(tensor)

    def _is_stored(self, tensor: Any) -> bool:
        """True if a tensor is a buffer as it was before the forward."""
        return any(tensor is buffer for buffer in self.buffers)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Which way a branch goes: that which sizes decide, or that of two which does not raise.

        Raises:
            Asked: Python's own `max` or `min` compares, in whose place there may be another.
        """
        if self.computes_numbers and (asked := asked_to_choose()):
            self.asking.extend(asked)
            raise Asked
        try:
            return self.decider.decide(obj)
        except Undecided:
            way = way_past(sys._getframe(2))
            way = of_finite(obj.node) if way is None else way
            return super().to_bool(obj) if way is None else way

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
        """True if a value is the device that the module's tensors are on, and so all others."""
        return isinstance(value, torch.device) and value == self._device

    def is_on_cuda(self) -> bool:
        """Whether all tensors are there; that is asked in two traces, which have to do the same."""
        self.asks_cuda = True
        return self.on_cuda

    def requires_grad(self, node: fx.Node) -> bool:
        """Whether a parameter that a node reads is trained."""
        if node.op != "get_attr":
            return False
        path, _, name = str(node.target).rpartition(".")
        holder = self.root.get_submodule(path)
        stored = holder._parameters.get(name)  # an attribute would be a stand-in
        return stored is not None and stored.requires_grad

    def move(self, tensor: Tensor) -> Any:
        """A tensor that the forward has made, where the first is that it is given."""
        if self._given is None:
            return tensor
        moved = self.create_arg(tensor)
        return self.create_proxy("call_method", "to", (moved, self.device()), {})

    def device(self) -> Any:
        """Stands for where the first tensor is that the forward is given."""
        return self.create_proxy("call_function", getattr, (self._given, "device"), {})

    def _placeholder(self, name: str, default: tuple[Any, ...]) -> fx.Proxy:
        proxy = self.create_proxy("placeholder", name, default, {})
        if self._given is None and isinstance(self.supplied.get(name), Signal):
            self._given = proxy.node
        return proxy


_CONSTANTS = (Tensor, torch.ScriptObject, pytree.TreeSpec)


def state_refuted(refuted: Mapping[fx.Node, fx.Node]) -> None:
    """Give on `False` where a forward does with what a branch has asked for, and does not hold.

    `size > 1 and is_causal` is `size > 1` there.

    Args:
        refuted: what branches ask for, by what asserts that it does not hold.
    """
    for guard, asked in refuted.items():
        for user in [user for user in asked.users if user > guard]:
            user.replace_input_with(asked, cast(Any, False))


def without_views(graph: fx.Graph) -> None:
    """Take out what only gave a dictionary's keys or values to a loop, which has its items now.

    Args:
        graph: the trace; it is changed.
    """
    for node in graph.nodes:
        is_view = node.op == "call_method" and node.target in ("keys", "values", "items")
        if is_view and not node.users:
            graph.erase_node(node)


def _computes(target: Any) -> bool:
    """True for what is written as a sign between values, none of which may be `None`."""
    sign = SIGNS.get(target)
    return bool(sign and sign.kind in ("infix", "in place")) and target not in _COMPARING


_COMPARING = (operator.eq, operator.ne)  # which take anything


def _range_as_list(leaf: Any) -> Any:
    return list(leaf) if isinstance(leaf, range) else leaf


def _without_proxies(leaf: Any) -> Any:
    """What a check says, without the numbers of an input in it, which are known when it runs."""
    return re.sub(r"Proxy\(\w+\)", "...", leaf) if isinstance(leaf, str) else leaf
