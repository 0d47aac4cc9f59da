"""The tracer of one level: a module's own forward, every child a leaf."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from prunecore.deciding import Decider, Undecided
from prunecore.devices import contexts
from prunecore.lines import LINE, file_of, running_line
from prunecore.local_names import LocalNames
from prunecore.made import Made, MadeTensors
from prunecore.proxies import Known, give, items_of
from prunecore.supplied import arguments


def forward_of(module: nn.Module) -> Callable[..., Any]:
    """The method that is a module's forward: some choose one of several in their constructor."""
    chosen = vars(module).get("forward")
    if inspect.ismethod(chosen) and getattr(type(module), chosen.__name__, None) is chosen.__func__:
        method: Callable[..., Any] = chosen.__func__
        return method
    return type(module).forward


class NotHeldError(Exception):
    """A forward calls a layer that no module of the network holds, such as one in a plain list."""


class OneLevel(fx.Tracer):
    """Traces a module's own forward; only the arguments that are supplied become placeholders."""

    proxy_buffer_attributes = True  # what a forward computes of buffers is part of it

    def __init__(self, module: nn.Module, supplied: Mapping[str, Any]) -> None:
        super().__init__()
        self.supplied = supplied
        self.decider = Decider(module, supplied)
        self._contexts = contexts()
        self.outdated: set[fx.Node] = set()  # what holds lists that the forward has changed
        self._file = file_of(forward_of(module))
        self._names = LocalNames(self._file)
        self.made = MadeTensors()
        self._making: dict[tuple[int, int], fx.Node] = {}  # by identity and version of a tensor

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
        node = super().create_node(kind, target, args, kwargs, *names, **named)
        if kind == "output":
            self._names.end()
        elif kind != "placeholder":  # which no line of it makes
            node.meta[LINE] = running_line(self._file)
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
        """The forward, and what it is called with."""
        signature = inspect.signature(root_fn)
        positional, keywords = arguments(signature, self.supplied, self._placeholder)
        function = functools.partial(root_fn, **keywords) if keywords else root_fn
        return function, [self.root, *positional]

    def create_arg(self, a: Any) -> Any:
        """What a node is given: a named tuple as it is, not as the call that makes it."""
        if isinstance(a, Known):
            a = a.as_argument()
        if isinstance(a, fx.Node):
            return a
        if isinstance(a, tuple) and hasattr(a, "_fields"):
            return type(a)(*map(self.create_arg, a))
        if type(a) is Tensor and not any(a is buffer for buffer in self.root.buffers()):
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
        """
        if self.decider.is_computing or not self._is_child(m):
            return forward(*args, **kwargs)
        result = super().call_module(m, forward, args, kwargs)
        give(result.node, (args, kwargs), self.decider)
        return result

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

    def _placeholder(self, name: str, default: tuple[Any, ...]) -> fx.Proxy:
        return self.create_proxy("placeholder", name, default, {})
