"""What a forward computes under, as `with` blocks that its trace notes: gradients and autocast."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import fx

from prunecore.isolation.state import TORCH
from prunecore.tracing.modules.attributes import TrainingFlag
from prunecore.tracing.stand_ins.patches import in_this_thread, replaced

UNDER = "under"  # what a node's meta calls the blocks that it is computed in, the outermost first


@dataclass(frozen=True)
class Context:
    """A `with` block of a forward.

    Attributes:
        name: what makes it, as it is written.
        args: what that is given.
        kwargs: likewise, by name.
        place: where in the code it is entered, and how many times it was before.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    place: Hashable

    @property
    def kind(self) -> Hashable:
        """What it is, wherever it is entered."""
        flag = [isinstance(value, TrainingFlag) for value in self.args]
        return self.name, self.args, self.kwargs, tuple(flag)


def under(node: fx.Node) -> tuple[Context, ...]:
    """The blocks that a node is computed in, the outermost first."""
    contexts: tuple[Context, ...] = node.meta.get(UNDER, ())
    return contexts


def kinds(node: fx.Node) -> tuple[Hashable, ...]:
    """What a node is computed under, wherever that was entered."""
    return tuple(context.kind for context in under(node))


_AUTOCAST = torch.amp.autocast_mode.autocast


_GRADIENTS: Mapping[type, str] = {
    torch.no_grad: "torch.no_grad",
    torch.enable_grad: "torch.enable_grad",
    torch.set_grad_enabled: "torch.set_grad_enabled",
    torch.inference_mode: "torch.inference_mode",
}


_TYPES = {"cpu": torch.bfloat16, "cuda": torch.float16}  # of an autocast that is given none


class Contexts:
    """While it is active, it notes the blocks that this thread enters.

    Attributes:
        entered: those that it is in, the outermost first.
    """

    def __init__(self) -> None:
        self.entered: list[Context] = []
        self._states = [_state()]  # before the first, and in each
        self._given: dict[int, tuple[Any, Any]] = {}  # what an autocast is made with, by identity
        self._made: list[Any] = []  # whose identities are known
        self._entries: Counter[Hashable] = Counter()
        self._patches = ExitStack()

    def __enter__(self) -> None:
        replacements: dict[tuple[Any, str], Any] = {}
        for kind in (*_GRADIENTS, _AUTOCAST):
            for name, new in (("__enter__", self._enter), ("__exit__", self._exit)):
                replacements[kind, name] = _beside(vars(kind)[name], new)
        for kind, make in ((torch.set_grad_enabled, _set_gradients), (_AUTOCAST, self._make)):
            replacements[kind, "__init__"] = _beside(vars(kind)["__init__"], make)
        self._patches.enter_context(replaced(replacements))

    def __exit__(self, *_: object) -> None:
        self._patches.close()

    def check(self) -> tuple[Context, ...]:
        """The blocks that what is computed now is in.

        Raises:
            RuntimeError: gradients or autocast are switched otherwise.
        """
        if _state() != self._states[-1]:
            raise RuntimeError(
                "it switches gradients or autocast without a `with` block, for what comes after it"
            )
        return tuple(self.entered)

    def _make(self, old: Callable[..., None], manager: Any, *args: Any, **kwargs: Any) -> None:
        self._given[id(manager)] = args, kwargs
        self._made.append(manager)
        old(manager, *args, **kwargs)

    def _enter(self, old: Callable[..., Any], manager: Any) -> Any:
        result = old(manager)
        self.entered.append(self._context(manager))
        self._states.append(_state())
        return result

    def _exit(self, old: Callable[..., Any], manager: Any, *error: Any) -> Any:
        self.entered.pop()
        self._states.pop()
        return old(manager, *error)

    def _context(self, manager: Any) -> Context:
        frame = sys._getframe(4)  # of what has entered it
        while frame.f_back is not None and frame.f_code.co_filename.startswith(TORCH):
            frame = frame.f_back
        line = frame.f_code, frame.f_lineno
        self._entries[line] += 1
        place = *line, self._entries[line]
        for kind, name in _GRADIENTS.items():
            if isinstance(manager, kind):
                mode = getattr(manager, "mode", None)
                is_default = mode is None or (kind is torch.inference_mode and mode)
                given = vars(manager).get(_FLAG, mode)
                return Context(name, () if is_default else (given,), (), place)
        args, kwargs = self._autocast(manager)
        return Context("torch.autocast", args, kwargs, place)

    def _autocast(self, manager: Any) -> tuple[tuple[Any, ...], tuple[tuple[str, Any], ...]]:
        """What an autocast is made with, without defaults.

        Raises:
            RuntimeError: it was made before the trace began, for a kind of device that is not here.
        """
        kind: str = manager.device
        made = self._given.get(id(manager)) or _decorating(manager)
        if made is None:
            if kind == "cuda" and not torch.cuda.is_available():
                raise RuntimeError(
                    "it is under a torch.autocast for cuda that was made before, and without cuda "
                    "torch forgets whether that is enabled"
                )
            given = kind, manager.fast_dtype, manager._enabled, manager._cache_enabled
        else:
            given = _arguments(*made[0], **made[1])
        _, dtype, enabled, cache = given
        values = {
            "dtype": None if dtype is _TYPES.get(str(kind)) else dtype,
            "enabled": None if enabled is True else enabled,
            "cache_enabled": None if cache is True else cache,
        }
        return (kind,), tuple((name, x) for name, x in values.items() if x is not None)


def _decorating(manager: Any) -> tuple[Any, Any] | None:
    """What the text of a function gives to the autocast that decorates it, if it is running.

    Args:
        manager: the autocast.

    Returns:
        Its arguments by place and by name; `None` where the text of no function tells.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_locals.get("autocast_instance") is not manager:
        frame = frame.f_back
    if frame is None:
        return None
    try:
        (function,) = ast.parse(textwrap.dedent(inspect.getsource(frame.f_locals["func"]))).body
        listed = getattr(function, "decorator_list", ())
        calls = [node for node in listed if isinstance(node, ast.Call)]
        (given,) = [node for node in calls if ast.unparse(node.func).endswith("autocast")]
        args = tuple(map(ast.literal_eval, given.args))
        return args, {str(node.arg): ast.literal_eval(node.value) for node in given.keywords}
    except (OSError, SyntaxError, ValueError):  # there is none, or it gives what is no literal
        return None


def _arguments(
    device_type: str, dtype: Any = None, enabled: Any = True, cache_enabled: Any = None
) -> tuple[str, Any, Any, Any]:
    return device_type, dtype, enabled, cache_enabled


def _beside(old: Callable[..., Any], new: Callable[..., Any]) -> Callable[..., Any]:
    """A method that calls `new` with the old one in this thread, and the old one in others."""

    def method(manager: Any, *args: Any, **kwargs: Any) -> Any:
        return new(old, manager, *args, **kwargs)

    return in_this_thread(method, old)


_FLAG = "_prunecore_flag"


def _set_gradients(old: Callable[..., None], manager: Any, mode: Any) -> None:
    """Make a `torch.set_grad_enabled`, to which `self.training` may be handed on."""
    vars(manager)[_FLAG] = mode
    old(manager, int.__bool__(mode) if isinstance(mode, TrainingFlag) else mode)


def _state() -> tuple[bool, ...]:
    """Whether gradients are computed, and where autocast is on."""
    kinds = ("cpu", "cuda")
    return torch.is_grad_enabled(), *(torch.is_autocast_enabled(kind) for kind in kinds)
