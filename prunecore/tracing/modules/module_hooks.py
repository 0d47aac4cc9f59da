"""The forward hooks of modules, and what they do: found out by running them once."""

from __future__ import annotations

import dis
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from prunecore.channels.names import module_paths, named_modules
from prunecore.inputs import Arguments, drawn_like
from prunecore.isolation.copies import CONTAINERS, Isolation
from prunecore.isolation.random_states import OwnDraws, kept_random_states
from prunecore.isolation.state import kept_state, parts_of


@dataclass(frozen=True, eq=False)
class Hook:
    """A function that is called with a module's forward, and may change what goes in or out.

    Attributes:
        function: the hook itself.
        is_before: whether it is called before the forward, not after it.
        with_kwargs: whether it is given the arguments by name, too.
    """

    function: Callable[..., Any]
    is_before: bool
    with_kwargs: bool

    def __str__(self) -> str:
        """Its kind and its name."""
        function = self.function
        while isinstance(function, functools.partial):
            function = function.func
        name = getattr(function, "__qualname__", type(function).__qualname__)
        kind = "forward pre-hook" if self.is_before else "forward hook"
        return f"{kind} {name.rpartition('<locals>.')[2]}"


def hooks_of(module: nn.Module) -> tuple[Hook, ...]:
    """The forward hooks that are registered on a module, in the order of their calls."""
    if not (module._forward_pre_hooks or module._forward_hooks):
        return ()  # as most have none
    before = [
        Hook(hook, True, key in module._forward_pre_hooks_with_kwargs)
        for key, hook in module._forward_pre_hooks.items()
    ]
    after = [
        Hook(hook, False, key in module._forward_hooks_with_kwargs)
        for key, hook in module._forward_hooks.items()
    ]
    return (*before, *after)


def global_hooks() -> tuple[Hook, ...]:
    """The forward hooks that are called with every module of the process."""
    with_kwargs = torch_module._global_forward_hooks_with_kwargs
    before = [Hook(hook, True, False) for hook in torch_module._global_forward_pre_hooks.values()]
    after = [
        Hook(hook, False, key in with_kwargs)
        for key, hook in torch_module._global_forward_hooks.items()
    ]
    return (*before, *after)


def hooks_in(network: nn.Module) -> list[Callable[..., Any]]:
    """The forward hooks that calling a network calls, those of all modules first."""
    own = (hook for module in network.modules() for hook in hooks_of(module))
    return [hook.function for hook in (*global_hooks(), *own)]


@contextmanager
def kept_hooks(network: nn.Module) -> Iterator[None]:
    """Take off the forward hooks that are registered meanwhile on a network's modules."""
    modules = [module for _, module in named_modules(network)]
    places = [hooks for x in modules for hooks in (x._forward_pre_hooks, x._forward_hooks)]
    before = {place: set(hooks) for place, hooks in enumerate(places) if hooks}
    try:
        yield
    finally:
        for place, hooks in enumerate(places):
            for key in hooks.keys() - before.get(place, set()) if hooks else ():
                del hooks[key]


def call_with(
    hooks: Sequence[Hook],
    run: Callable[..., Any],
    forward: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Call a module as torch does: what comes before its forward, that, and what comes after it.

    Args:
        hooks: all that are called with it, in order.
        run: called with a hook and what it is given after the module.
        forward: what is called as the module's forward.
        args: what the module is called with.
        kwargs: likewise, by name.
    """
    for hook in hooks:
        if hook.is_before:
            result = run(hook, args, *((kwargs,) if hook.with_kwargs else ()))
            if result is not None and hook.with_kwargs:
                args, kwargs = result
            elif result is not None:
                args = result if isinstance(result, tuple) else (result,)
    output = forward(*args, **kwargs)
    for hook in hooks:
        if not hook.is_before:
            result = run(hook, args, *((kwargs,) if hook.with_kwargs else ()), output)
            output = output if result is None else result
    return output


@dataclass
class Verdict:
    """What a hook did when the network ran.

    Attributes:
        changes: the paths of the modules whose inputs or outputs it has changed, or may change for
            other values.
        sets: the attributes that it has changed, or the containers in them: (path of the module,
            name); without a path where it knows the container alone.
        knows: the paths of the modules that it knows, beside the one that it is called with.
    """

    changes: set[str] = field(default_factory=set)
    sets: set[tuple[str | None, str]] = field(default_factory=set)
    knows: set[str] = field(default_factory=set)


Verdicts = Mapping[Hook, Verdict]


def judge(
    network: nn.Module,
    inputs: Arguments,
    every: Sequence[Hook],
    hooks: Mapping[str, Sequence[Hook]],
    with_training: bool,
) -> Verdicts:
    """Find out what hooks do, by running a copy of the network as the user calls it.

    Args:
        network: the network; neither it nor what its hooks belong to is changed.
        inputs: tensors on the meta device, of the shapes that it is run on, by place and by name.
        every: hooks that are called with every module.
        hooks: by the path of the module that they are called with.
        with_training: whether it is run as in training, too.

    Returns:
        What each hook did that has been called. Where the network cannot be run, that is all that a
        hook may do. Where it returns something else without those that only look, because a forward
        goes by what they have seen, they change something.
    """
    watched = _Watched(network, every, hooks)
    floats = (tensor for tensor in network.parameters() if tensor.is_floating_point())
    given = drawn_like(inputs, next(floats, torch.empty(0)))
    try:
        for in_training in (True, False) if with_training else (False,):
            returned = watched.run(given, in_training)
    except Exception:  # whatever the network raises: the walk will come to that, and say more of it
        return watched.at_worst()
    only_look = {
        hook for hook, does in watched.verdicts.items() if not does.changes and not does.sets
    }
    looking = {path: only_look.intersection(own) for path, own in hooks.items()}
    if any(looking.values()):
        others = {path: [x for x in own if x not in only_look] for path, own in hooks.items()}
        without = _Watched(network, [hook for hook in every if hook not in only_look], others)
        if not _returns_alike(without, given, returned):
            for path, needed in looking.items():
                for hook in needed:
                    watched.verdicts[hook].changes.add(path)
    return watched.verdicts


def _returns_alike(watched: _Watched, given: Arguments, returned: Any) -> bool:
    """True if a copy of a network returns tensors of the same shapes in the same places."""
    try:
        alone = watched.run(given, in_training=False)
    except Exception:  # a forward goes by what is not there
        return False
    shapes = (
        pytree.tree_map_only(Tensor, lambda x: x.shape, output) for output in (returned, alone)
    )
    leaves, structures = zip(*map(pytree.tree_flatten, shapes), strict=True)
    return bool(structures[0] == structures[1] and leaves[0] == leaves[1])


class _Watched:
    """A copy of a network that runs with its hooks, which are watched."""

    def __init__(
        self, network: nn.Module, every: Sequence[Hook], hooks: Mapping[str, Sequence[Hook]]
    ) -> None:
        self.verdicts: dict[Hook, Verdict] = {}  # of the hooks that have been called
        self._isolation = Isolation(network, own_buffers=True)
        self._network = self._isolation.of(network)
        self._hooks = {path: (*every, *hooks.get(path, ())) for path, _ in network.named_modules()}
        self._paths = module_paths(self._network)
        self._names = dict(_containers(self._network))
        for path, module in self._network.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):
                vars(module)["_call_impl"] = functools.partial(self._call, module, path)

    def run(self, inputs: Arguments, in_training: bool) -> Any:
        """What it returns, without gradients.

        Args:
            inputs: what it is called with.
            in_training: whether it trains.
        """
        for module in self._network.modules():
            if not isinstance(module, torch.jit.ScriptModule):
                module.training = in_training
        args, kwargs = pytree.tree_map_only(Tensor, torch.clone, inputs)
        functions = {hook.function for hooks in self._hooks.values() for hook in hooks}
        kept = kept_state(*self._network.parameters(), *functions)
        with torch.no_grad(), kept_random_states(), kept, OwnDraws():
            return self._network(*args, **kwargs)

    def at_worst(self) -> Verdicts:
        """What the hooks may do, as far as anybody knows."""
        worst: dict[Hook, Verdict] = {}
        for path, hooks in self._hooks.items():
            for hook in hooks:
                verdict = worst.setdefault(hook, Verdict())
                verdict.changes.add(path)
                verdict.knows |= self._known(self._isolation.of(hook.function), path)[1]
        return worst

    def _call(self, module: nn.Module, path: str, *args: Any, **kwargs: Any) -> Any:
        run = functools.partial(self._run, module, path)
        return call_with(self._hooks[path], run, module.forward, args, kwargs)

    def _run(self, module: nn.Module, path: str, hook: Hook, *given: Any) -> Any:
        """Call a hook, and note what it does."""
        function = self._isolation.of(hook.function)
        verdict = self.verdicts.setdefault(hook, Verdict())
        known, paths = self._known(function, path)
        tensors = [leaf for leaf in pytree.tree_leaves(given) if isinstance(leaf, Tensor)]
        versions = [tensor._version for tensor in tensors]
        before = self._held([module, *known])
        with _Asking() as asking:
            result = function(module, *given)
        after = self._held([module, *known])
        has_changed = result is not None or versions != [tensor._version for tensor in tensors]
        if has_changed or (asking.is_asked and _may_change(function)):
            verdict.changes.add(path)
        verdict.knows |= paths
        verdict.sets |= {
            key for key in before.keys() | after.keys() if before.get(key) != after.get(key)
        }
        return result

    def _known(self, function: Any, path: str) -> tuple[list[Any], set[str]]:
        """The modules and containers that a function can reach by itself, and paths of modules."""
        known = list(reached([function]))
        paths = {self._paths.get(id(thing), path) for thing in known}
        return known, paths - {path}

    def _held(self, things: Sequence[Any]) -> dict[tuple[str | None, str], Any]:
        """What modules, those in them, and containers hold, by the names of attributes."""
        held: dict[tuple[str | None, str], Any] = {}
        parts = [thing.modules() if isinstance(thing, nn.Module) else [thing] for thing in things]
        for thing in {id(part): part for part in itertools.chain.from_iterable(parts)}.values():
            path = self._paths.get(id(thing))
            if path is not None:
                for name, value in vars(thing).items():
                    held[path, name] = _items(value) if isinstance(value, CONTAINERS) else id(value)
                for name, tensor in (*thing._parameters.items(), *thing._buffers.items()):
                    held[path, name] = id(tensor), None if tensor is None else tensor._version
            elif id(thing) in self._names:
                held[None, self._names[id(thing)]] = _items(thing)
        return held


class _Asking(TorchFunctionMode):
    """Notes whether code asks for the numbers in a tensor, to do this or that.

    Attributes:
        is_asked: whether it has.
    """

    is_asked = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a function."""
        self.is_asked |= getattr(func, "__name__", "") in _ASKING
        return func(*args, **(kwargs or {}))


# methods and functions that give numbers of Python's for those in a tensor
_ASKING = frozenset(
    {
        *("__bool__", "__float__", "__index__", "__int__", "item", "tolist"),
        *("__array__", "numpy", "allclose", "equal", "is_nonzero"),
    }
)


def _may_change(function: Any) -> bool:
    """True if a hook that has changed nothing may do so another time, by what its code says."""
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", getattr(type(function).__call__, "__code__", None))
    steps = list(dis.get_instructions(code)) if code else []
    if code is None or not any(step.opcode in _JUMPS for step in steps):
        return False
    returned = [
        # what it returns is made by the step before, unless several ways lead here
        (step if step.opname == "RETURN_CONST" else before, step.is_jump_target)
        for before, step in itertools.pairwise(steps)
        if step.opname in ("RETURN_CONST", "RETURN_VALUE")
    ]
    returns = any(
        is_joined or "CONST" not in made.opname or made.argval is not None
        for made, is_joined in returned
    )
    return returns or any(name.endswith("_") and hasattr(Tensor, name) for name in code.co_names)


_JUMPS = frozenset((*dis.hasjrel, *dis.hasjabs))


def _items(container: Any) -> tuple[int, ...]:
    items = container.items() if isinstance(container, dict) else ((item,) for item in container)
    return id(container), *(id(part) for item in items for part in item)


def _containers(network: nn.Module) -> Iterator[tuple[int, str]]:
    """The containers that modules hold, by identity, and the names of their attributes."""
    seen: set[int] = set()
    waiting = [
        (name, value) for module in network.modules() for name, value in vars(module).items()
    ]
    while waiting:
        name, thing = waiting.pop()
        if isinstance(thing, CONTAINERS) and id(thing) not in seen:
            seen.add(id(thing))
            yield id(thing), name
            items = thing.values() if isinstance(thing, dict) else thing
            waiting += [(name, item) for item in items]


def reached(functions: Iterable[Any]) -> Iterator[Any]:
    """The modules and containers that functions can reach by themselves."""
    seen: dict[int, Any] = {}
    waiting: list[Any] = [(function,) for function in functions]
    while waiting:
        thing, *depth = waiting.pop()
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        if isinstance(thing, (nn.Module, *CONTAINERS)):
            yield thing
        if not isinstance(thing, nn.Module):
            waiting += parts_of(thing, *depth)
