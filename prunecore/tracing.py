"""One level of a module's own forward as a torch.fx graph, every child a leaf."""

from __future__ import annotations

import copy
import functools
import inspect
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from prunecore.attributes import held_numbers
from prunecore.deciding import Decider, Undecided
from prunecore.devices import contexts
from prunecore.errors import UnsupportedError
from prunecore.fused import layer_by_layer
from prunecore.lines import LINE, file_of, raising_line, running_line
from prunecore.local_names import LocalNames
from prunecore.made import Made, MadeTensors, traced_factories
from prunecore.modes import Modes, alike
from prunecore.proxies import ChangedListError, Known, give, items_of, without_views
from prunecore.supplied import arguments, put_together
from prunecore.training import TRAINING, Training


class NotHeldError(Exception):
    """A forward calls a layer that no module of the network holds, such as one in a plain list."""


class _OneLevel(fx.Tracer):
    """Traces a module's own forward; only the arguments that are supplied become placeholders."""

    proxy_buffer_attributes = True  # what a forward computes of buffers is part of it

    def __init__(self, module: nn.Module, supplied: Mapping[str, Any]) -> None:
        super().__init__()
        self.supplied = supplied
        self.decider = Decider(module, supplied)
        self._contexts = contexts()
        self.outdated: set[fx.Node] = set()  # what holds lists that the forward has changed
        self._file = file_of(_forward_of(module))
        self._names = LocalNames(self._file)
        self.made = MadeTensors()
        self._making: dict[int, fx.Node] = {}  # by identity of the tensor that a node makes

    def create_node(self, kind: str, *args: Any, **kwargs: Any) -> fx.Node:
        """A node that knows the line of the forward that it stands for, and what it is called."""
        if contexts() != self._contexts:
            raise RuntimeError(
                "it computes under torch.no_grad or autocast, which its trace does not tell"
            )
        node = super().create_node(kind, *args, **kwargs)
        if kind == "output":
            self._names.end()
        elif kind != "placeholder":  # which no line of it makes
            node.meta[LINE] = running_line(self._file)
            self._names.note()
        return node

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def create_args_for_root(
        self,
        root_fn: Callable[..., Any],
        is_module: bool,
        concrete_args: dict[str, Any] | tuple[Any, ...] | None = None,
    ) -> tuple[Any, list[Any]]:
        signature = inspect.signature(root_fn)
        positional, keywords = arguments(signature, self.supplied, self._placeholder)
        function = functools.partial(root_fn, **keywords) if keywords else root_fn
        return function, [self.root, *positional]

    def create_arg(self, a: Any) -> Any:
        """What a node is given: a named tuple as it is, not as the call that makes it."""
        if issubclass(type(a), Known):  # whatever it says that it is
            a = a.as_argument()
        if isinstance(a, fx.Node):
            return a
        if isinstance(a, tuple) and hasattr(a, "_fields"):
            return type(a)(*map(self.create_arg, a))
        if type(a) is Tensor and (made := self.made.how(a)) is not None:
            return self._making.get(id(a)) or self._make(a, made)
        return super().create_arg(a)

    def _make(self, tensor: Tensor, made: Made) -> fx.Node:
        """A node that makes a tensor as the forward has made it."""
        kind = "call_method" if isinstance(made.function, str) else "call_function"
        args, kwargs = self.create_arg(made.args), self.create_arg(dict(made.kwargs))
        node = self.create_node(kind, made.function, args, kwargs)
        self._making[id(tensor)] = node
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
        """A node for a child that is called."""
        if self.decider.is_computing:
            return forward(*args, **kwargs)
        result = super().call_module(m, forward, args, kwargs)
        give(result.node, (args, kwargs), self.decider)
        return result

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

    def _placeholder(self, name: str, default: tuple[Any, ...]) -> fx.Proxy:
        return self.create_proxy("placeholder", name, default, {})


def trace_level(
    module: nn.Module, path: str, supplied: Mapping[str, Any], both: bool = True
) -> Modes:
    """Trace a module's own forward, every child a leaf.

    The module itself is not touched: the tracer works on a shallow copy. Training is traced only
    where eval mode reads `self.training` for more than to hand it on.

    Args:
        module: the module.
        path: its path in the network, for messages.
        supplied: the arguments of its forward that are given, by parameter name.
        both: whether training counts.

    Raises:
        UnsupportedError: its forward does what torch.fx cannot follow, such as branching on data.
    """
    flag = Training(0)
    graph = _trace(module, path, supplied, flag)
    if not flag.is_read:
        return Modes(graph, graph)
    if not both:
        return Modes(graph, None)
    other = trace_training(module, path, supplied)
    return Modes(graph, graph if alike(graph, other) else other)


def trace_training(
    module: nn.Module, path: str, supplied: Mapping[str, Any], without: Collection[str] = ()
) -> fx.Graph:
    """Trace a module's own forward as it runs in training, every child a leaf.

    Args:
        module: the module.
        path: its path in the network, for messages.
        supplied: the arguments of its forward that are given, by parameter name.
        without: paths of children in it that are `None`.

    Raises:
        UnsupportedError: torch.fx cannot follow it, or it draws numbers while it is traced.
    """
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state(), random.getstate()
        graph = _trace(module, path, supplied, Training(1), without)
        draws = not torch.equal(before[0], torch.get_rng_state()) or before[1] != random.getstate()
        random.setstate(before[1])
    if draws:
        raise UnsupportedError(
            path,
            type(module).__name__,
            "its forward in training draws numbers that are no tensors of the network's size",
            f"Draw with x.new_empty(...).bernoulli_(p) and multiply by that. {_REMEDY}",
        )
    return graph


_A_PART = "Or prune a part of the network in its place (--module PATH)."
_REMEDIES: Mapping[type[Exception], str] = {
    NotHeldError: "Hold it in an attribute, or in an nn.ModuleList or nn.ModuleDict, not in a "
    "plain list.",
    ChangedListError: "Let the submodule return what it puts into the list, and read that; or give "
    "it list(...) of yours.",
}
_REMEDY = f"Or leave out what only training does (--drop {TRAINING})."


def _trace(
    module: nn.Module,
    path: str,
    supplied: Mapping[str, Any],
    flag: Training,
    without: Collection[str] = (),
) -> fx.Graph:
    try:
        shadow = _shadow(module)
    except RuntimeError as error:  # torch refuses to copy a parametrized module
        raise UnsupportedError(
            path,
            type(module).__name__,
            "one of its weights is computed each time, not stored",
            "Make it a plain parameter first, with "
            "torch.nn.utils.parametrize.remove_parametrizations.",
        ) from error
    vars(shadow).update(held_numbers(module))
    shadow.training = flag  # type: ignore[assignment]
    for child in without:
        holder = shadow
        *outer, name = child.split(".")
        for key in outer:
            holder._modules[key] = _shadow(holder.get_submodule(key))
            holder = holder.get_submodule(key)
        holder._modules[name] = None
    tracer = _OneLevel(module, supplied)
    forward = _forward_of(module)
    if forward is not type(module).forward:
        tracer.traced_func_name = forward.__name__
    try:
        with layer_by_layer(), traced_factories(), tracer.made:
            graph = tracer.trace(shadow)
    except Exception as error:  # whatever the user's own forward raises when it meets a proxy
        raise _untraceable(module, path, error, bool(flag)) from error
    without_views(graph)
    put_together(graph, supplied)
    return graph


def _shadow(module: nn.Module) -> nn.Module:
    """A shallow copy with registries of its own."""
    shadow = copy.copy(module)
    for registry in ("_modules", "_parameters", "_buffers"):
        shadow.__dict__[registry] = dict(getattr(module, registry))
    return shadow


def _forward_of(module: nn.Module) -> Callable[..., Any]:
    """The method that is a module's forward: some choose one of several in their constructor."""
    chosen = vars(module).get("forward")
    if inspect.ismethod(chosen) and getattr(type(module), chosen.__name__, None) is chosen.__func__:
        method: Callable[..., Any] = chosen.__func__
        return method
    return type(module).forward


def _untraceable(
    module: nn.Module, path: str, error: Exception, in_training: bool
) -> UnsupportedError:
    name = type(module).__name__
    forward = _forward_of(module)
    if forward is nn.Module.forward:
        return UnsupportedError(
            path,
            name,
            "it has no forward",
            "Call its children from the forward of the module that holds it.",
        )
    remedy = _REMEDIES.get(
        type(error),
        "Take the branch or conversion on tensor values out of its forward, or install or "
        f"write a plugin that owns {name} (hook prunecore_calculate_dependencies).",
    )
    reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    others = f" {_REMEDY}" if in_training else "" if path else f" {_A_PART}"
    return UnsupportedError(
        path,
        name,
        f"its forward{' in training' if in_training else ''} cannot be traced: {reason}",
        f"{remedy}{others}",
        raising_line(error, file_of(forward)),
    )
