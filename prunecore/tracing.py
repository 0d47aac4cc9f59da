"""One level of a module's own forward as a torch.fx graph, every child a leaf."""

from __future__ import annotations

import copy
import functools
import inspect
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from torch import fx, nn

from prunecore.deciding import Decider, Undecided
from prunecore.errors import UnsupportedError
from prunecore.supplied import arguments


class Training(int):
    """The value 0 that a traced forward sees as `self.training`."""


class _OneLevel(fx.Tracer):
    """Traces a module's own forward; only the arguments that are supplied become placeholders."""

    proxy_buffer_attributes = True  # what a forward computes of buffers is part of it

    def __init__(self, module: nn.Module, supplied: Mapping[str, Any]) -> None:
        super().__init__()
        self.supplied = supplied
        self._decider = Decider(module, supplied)

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

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """A node for a child that is called."""
        if self._decider.is_computing:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        """A node for a parameter or buffer that is read."""
        if self._decider.is_computing:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Which way a branch goes, where sizes decide it."""
        try:
            return self._decider.decide(obj)
        except Undecided:
            return super().to_bool(obj)

    def _placeholder(self, name: str, default: tuple[Any, ...]) -> fx.Proxy:
        return self.create_proxy("placeholder", name, default, {})


def trace_level(module: nn.Module, path: str, supplied: Mapping[str, Any]) -> fx.Graph:
    """Trace a module's own forward as it runs in eval mode, every child a leaf.

    The module itself is not touched: the tracer works on a shallow copy.

    Args:
        module: the module.
        path: its path in the network, for messages.
        supplied: the arguments of its forward that are given, by parameter name.

    Raises:
        UnsupportedError: its forward does what torch.fx cannot follow, such as branching on data.
    """
    try:
        shadow = copy.copy(module)
    except RuntimeError as error:  # torch refuses to copy a parametrized module
        raise UnsupportedError(
            path,
            type(module).__name__,
            "one of its weights is computed each time, not stored",
            "Make it a plain parameter first, with "
            "torch.nn.utils.parametrize.remove_parametrizations.",
        ) from error
    shadow.training = Training(0)  # type: ignore[assignment]
    for registry in ("_modules", "_parameters", "_buffers"):
        shadow.__dict__[registry] = dict(getattr(module, registry))
    tracer = _OneLevel(module, supplied)
    tracer.traced_func_name = _forward_of(module).__name__
    try:
        return tracer.trace(shadow)
    except Exception as error:  # whatever the user's own forward raises when it meets a proxy
        raise _untraceable(module, path, error) from error


def _forward_of(module: nn.Module) -> Callable[..., Any]:
    """The method that is a module's forward: some choose one of several in their constructor."""
    chosen = vars(module).get("forward")
    if inspect.ismethod(chosen) and getattr(type(module), chosen.__name__, None) is chosen.__func__:
        method: Callable[..., Any] = chosen.__func__
        return method
    return type(module).forward


def _untraceable(module: nn.Module, path: str, error: Exception) -> UnsupportedError:
    name = type(module).__name__
    forward = _forward_of(module)
    if forward is nn.Module.forward:
        return UnsupportedError(
            path,
            name,
            "it has no forward",
            "Call its children from the forward of the module that holds it.",
        )
    source = inspect.getsourcefile(forward)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == source]
    where = f" at {own[-1].filename}:{own[-1].lineno}, `{own[-1].line}`" if own else ""
    reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    return UnsupportedError(
        path,
        name,
        f"its forward cannot be traced{where}: {reason}",
        "Take the branch or conversion on tensor values out of its forward, or install or write "
        f"a plugin that owns {name} (hook prunecore_calculate_dependencies).",
    )
