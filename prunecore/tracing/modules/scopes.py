"""Where what modules do beside their class's forward is followed: in the trace of which module."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from prunecore.channels.names import is_within, join, named_modules
from prunecore.channels.records import TRAINING
from prunecore.errors import UnsupportedError
from prunecore.inputs import Arguments
from prunecore.tracing.modules.module_hooks import (
    Hook,
    Verdict,
    Verdicts,
    global_hooks,
    hooks_of,
    judge,
    reached,
)

_OF_ALL = [value for value in vars(nn.Module).values() if isinstance(value, types.FunctionType)]
HOOKS = "hooks"  # what a module's hooks are called where modules are named


@dataclass(frozen=True)
class Scopes:
    """What calling the modules of a network does beside the forwards of their classes.

    Attributes:
        hooks: those that change something, by the path of the module: its caller follows them.
        opened: paths of the modules that are followed through their own forward, whoever owns them.
        inlined: paths of the modules whose forward is a part of that of what calls them.
        without: whose hooks are left out, as they are named.
    """

    hooks: Mapping[str, Sequence[Hook]]
    opened: Collection[str]
    inlined: Collection[str]
    without: tuple[str, ...]


NO_SCOPES = Scopes({}, frozenset(), frozenset(), ())


def named_hooks(path: str) -> str:
    """What a module's hooks are called where modules are named."""
    return join(path, HOOKS)


def hooks_to_drop(network: nn.Module) -> list[str]:
    """What the hooks of a network are called where modules are named: all, and each module's."""
    hooked = (named_hooks(path) for path, module in named_modules(network) if hooks_of(module))
    return [HOOKS, *(name for name in hooked if name != HOOKS)]


def find_scopes(network: nn.Module, inputs: Arguments, drop: Collection[str]) -> Scopes:
    """Find out what is to be followed where.

    Only hooks that change something are: what goes in or out of a module, or something that a
    forward reads. A hook that only looks is none of the network's.

    Args:
        network: the network; it is not changed.
        inputs: tensors on the meta device, by place and by name.
        drop: what is left out, by name: `hooks` for all of them, `a.b.hooks` for those of `a.b`.

    Raises:
        UnsupportedError: a hook does what cannot be followed.
    """
    finder = _Finder(network)
    registered = {
        path: hooks for path, module in named_modules(network) if (hooks := hooks_of(module))
    }
    without = [path for path in registered if HOOKS in drop or named_hooks(path) in drop]
    for path in without:
        del registered[path]
    every = global_hooks()
    if registered or every:
        verdicts = judge(network, inputs, every, registered, with_training=TRAINING not in drop)
        finder.check_global(every, verdicts)
        finder.add_hooks(registered, verdicts)
    finder.add_own_methods()
    names = tuple(map(named_hooks, without))
    return Scopes(finder.hooks, finder.opened, finder.inlined, names)


def own_methods(module: nn.Module) -> list[Callable[..., Any]]:
    """The methods of its class that a module has others of, as attributes of its own."""
    found = []
    for name, value in vars(module).items():
        if callable(value) and (name == "forward" or name not in vars(nn.Module)):
            of_class = inspect.getattr_static(type(module), name, None)
            bound = getattr(value, "__func__", None), getattr(value, "__self__", None)
            is_same = bound == (of_class, module)
            if isinstance(of_class, types.FunctionType) and not is_same:
                found.append(value)
    return found


class _Finder:
    """Places what modules do, one after the other."""

    def __init__(self, network: nn.Module) -> None:
        self.hooks: dict[str, Sequence[Hook]] = {}
        self.opened: set[str] = set()
        self.inlined: set[str] = set()
        self._modules = dict(named_modules(network))
        self._first = {id(module): path for path, module in self._modules.items()}
        self._read: dict[str, set[str]] = {}

    @functools.cached_property
    def _paths(self) -> dict[str, list[str]]:
        """All paths of each module, by the first of them."""
        paths: dict[str, list[str]] = {}
        for path, module in named_modules(self._modules[""], remove_duplicate=False):
            paths.setdefault(self._first[id(module)], []).append(path)
        return paths

    def check_global(self, hooks: Sequence[Hook], verdicts: Verdicts) -> None:
        """Check that hooks of all modules change nothing: they are none of the network's.

        Raises:
            UnsupportedError: one changes something.
        """
        for hook in hooks:
            verdict = verdicts.get(hook, Verdict())
            changed: set[str] = verdict.changes | self._readers(verdict)
            for path in sorted(changed):
                raise self._refused(
                    path,
                    f"the {hook} of all modules changes what it is given, returns or reads",
                    "Remove it with the handle that registering it has returned.",
                )

    def add_hooks(self, registered: Mapping[str, Sequence[Hook]], verdicts: Verdicts) -> None:
        """Note where hooks are followed that change something.

        Raises:
            UnsupportedError: one sets what the module's own forward reads.
        """
        for path, hooks in registered.items():
            called = [hook for hook in hooks if hook in verdicts]
            for hook in called:
                self._check_own(path, hook, verdicts[hook])
            readers = {hook: self._readers(verdicts[hook]) for hook in called}
            active = [hook for hook in called if verdicts[hook].changes or readers[hook]]
            for hook in active:
                self._place(path, verdicts[hook].knows, readers[hook])
            if active:
                self.hooks[path] = tuple(active)

    def add_own_methods(self) -> None:
        """Note where methods are followed that only an instance has, or that call a forward."""
        for path, module in self._modules.items():
            if type(module).__call__ is not nn.Module.__call__:
                self._place(path)
            methods = own_methods(module)
            if methods:
                self.opened.add(path)
            known = {self._first.get(id(thing), str(path)) for thing in reached(methods)}
            outside = {other for other in known if not is_within(other, [path])}
            if path and outside:
                self._place(path, outside, {path})

    def _check_own(self, path: str, hook: Hook, verdict: Verdict) -> None:
        """Check that a hook sets nothing that the forward reads which it is called with."""
        own = {name for holder, name in verdict.sets if holder == path}
        for name in sorted(own & self._reads(path)):
            raise self._refused(
                path,
                f"its {hook} sets {name}, which its forward reads",
                f"Remove it, so that {name} is stored, or {leave_out(path)}.",
            )

    def _readers(self, verdict: Verdict) -> set[str]:
        """The modules whose forwards read what a hook sets."""
        names = {name for _, name in verdict.sets}
        return {path for path in self._modules if names and names & self._reads(path)}

    def _place(self, path: str, known: Collection[str] = (), readers: Collection[str] = ()) -> None:
        """Let a module's callers follow what it does; all of it in one trace where it must be.

        Args:
            path: of the module.
            known: paths of the modules that it knows; they are to be within what is traced.
            readers: paths of the modules whose forwards are a part of the trace.
        """
        callers = [self._caller(each) for each in self._paths[path] if each]
        if path and not known and not readers:
            self.opened.update(callers)
            return
        scope = self._with_forward(_common([*callers, *known, *readers, *([] if path else [""])]))
        self.opened.add(scope)
        for end in (*callers, *readers):
            while end != scope:
                self.inlined.add(end)
                end = end.rpartition(".")[0]

    def _caller(self, path: str) -> str:
        return self._with_forward(path.rpartition(".")[0])

    def _with_forward(self, path: str) -> str:
        """The first path of the innermost module on a path that can be called."""
        while path and type(self._at(path)).forward is nn.Module.forward:
            path = path.rpartition(".")[0]
        return self._first[id(self._at(path))]

    def _at(self, path: str) -> nn.Module:
        module: nn.Module = self._modules[""].get_submodule(path)
        return module

    def _reads(self, path: str) -> set[str]:
        """The names that a module's forward mentions."""
        if path not in self._read:
            module = self._modules[path]
            self._read[path] = mentioned(type(module), own_methods(module))
        return self._read[path]

    def _refused(self, path: str, reason: str, remedy: str) -> UnsupportedError:
        return UnsupportedError(path, type(self._modules[path]).__name__, reason, remedy)


def leave_out(path: str) -> str:
    """What to do to leave a module's hooks out, in the middle of a sentence."""
    return f"leave its hooks out (--drop {named_hooks(path)})"


def mentioned(cls: type[nn.Module], others: Iterable[Callable[..., Any]]) -> set[str]:
    """The names that a class's forward and the methods that it calls mention, as far as is seen.

    Args:
        cls: a class of modules.
        others: further methods.
    """
    names: set[str] = set()
    seen: dict[int, Any] = {}
    waiting: list[Any] = [cls.forward, cls.__call__, *others]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        if isinstance(thing, types.CodeType):
            found = {*thing.co_names, *(const for const in thing.co_consts if type(const) is str)}
            waiting += [const for const in thing.co_consts if isinstance(const, types.CodeType)]
            waiting += [inspect.getattr_static(cls, name, None) for name in found - names]
            names |= found
        elif isinstance(thing, property):
            waiting.append(thing.fget)
        elif callable(thing) and thing not in _OF_ALL:
            ways = ("__func__", "__wrapped__", "func", "__code__")
            waiting += [part for way in ways if (part := getattr(thing, way, None)) is not None]
    return names


def _common(paths: Sequence[str]) -> str:
    """The path of the innermost module that modules lie in."""
    common: list[str] = []
    for keys in zip(*(path.split(".") if path else [] for path in paths), strict=False):
        if len(set(keys)) > 1:
            break
        common.append(keys[0])
    return ".".join(common)
