"""Symbolic traces of modules, one level each: in eval mode and, where that differs, in training."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, fx, nn
from torch.nn.utils import rnn
from torch.nn.utils.parametrize import is_parametrized

from prunecore.channels.names import is_of_torch, named_buffers
from prunecore.channels.records import TRAINING
from prunecore.errors import UnsupportedError, told
from prunecore.isolation.copies import Isolation
from prunecore.isolation.random_states import PythonsDraws, kept_random_states
from prunecore.isolation.state import Contents, functions_of, kept_contents
from prunecore.tracing.answers import answered
from prunecore.tracing.arguments import put_together
from prunecore.tracing.conditions import TAKEN
from prunecore.tracing.in_place import changes_tensors, without_augmented, without_shaping
from prunecore.tracing.memories import Forgotten, SetAnewError, UsedError, remembered
from prunecore.tracing.modules.attributes import TrainingFlag, held_numbers
from prunecore.tracing.modules.forwards import forward_of
from prunecore.tracing.modules.module_hooks import Hook, kept_hooks
from prunecore.tracing.modules.next_call import Left, NextCallError, SetElsewhereError
from prunecore.tracing.modules.scopes import leave_out
from prunecore.tracing.moves import alike_but_for_moves
from prunecore.tracing.nodes import is_in_place, without_dead
from prunecore.tracing.source_lines import (
    file_of,
    raising_line,
)
from prunecore.tracing.stand_ins.autograd_functions import Applied, applying
from prunecore.tracing.stand_ins.patches import trace_alone
from prunecore.tracing.stand_ins.proxies import (
    Asked,
    ChangedListError,
    Known,
    SetDataError,
    SetPlacesError,
)
from prunecore.tracing.tracer import (
    FollowedHookError,
    HandedModuleError,
    HandedOnError,
    NotHeldError,
    OneLevel,
    Within,
    state_refuted,
    without_views,
)
from prunecore.tracing.ways.pairing import alike
from prunecore.tracing.ways.train_eval import TrainEval


@dataclass(frozen=True)
class Level:
    """What belongs to a trace beside the forward of the module that is traced.

    Attributes:
        hooks: those that are followed, with the path in the network of the module that they are
            called with; by the path in the module.
        inlined: paths in the module of those whose forward is a part of the trace.
        is_whole: whether it tells of all that calling the module does, not of its forward alone.
        followed: paths in the network of the modules whose hooks have been called meanwhile.
        known: the functions that there are rules for, which a trace does not go through where
            `torch.fx.wrap` marks them.
        forced: which ways its first branches on sizes go, whatever these are.
        watching: what is active while the forward runs.
        changing: what other traces have found of kinds of modules that change lists.
    """

    hooks: Mapping[str, tuple[str, Sequence[Hook]]] = field(default_factory=dict)
    inlined: Collection[str] = ()
    is_whole: bool = False
    followed: set[str] = field(default_factory=set)
    known: Collection[Callable[..., Any]] = ()
    forced: Sequence[bool] = ()
    watching: AbstractContextManager[object] = field(default_factory=nullcontext)
    changing: dict[Any, bool] = field(default_factory=dict)


def trace_level(
    module: nn.Module,
    path: str,
    supplied: Mapping[str, Any],
    both: bool = True,
    level: Level | None = None,
) -> TrainEval:
    """Trace a module's own forward, every child a leaf.

    The module itself is not touched: the tracer works on a copy. Its children are to be copies,
    too. Training is traced only where eval mode reads `self.training` for more than to hand it on.

    Args:
        module: the module.
        path: its path in the network, for messages.
        supplied: the arguments of its forward that are given, by parameter name.
        both: whether training counts.
        level: what else belongs to the trace.

    Raises:
        UnsupportedError: its forward does what torch.fx cannot follow, such as branching on data.
    """
    flag = TrainingFlag(0)
    level = level or Level()
    tracer = _trace(module, path, supplied, flag, level)
    graph = tracer.graph
    if not flag.is_read:
        return TrainEval(graph, graph, tracer.by_sizes)
    if not both:
        return TrainEval(graph, None)
    other = trace_training(module, path, supplied, level)
    return TrainEval(graph, graph if alike(graph, other) else other)


def trace_training(
    module: nn.Module,
    path: str,
    supplied: Mapping[str, Any],
    level: Level | None = None,
    without: Collection[str] = (),
) -> fx.Graph:
    """Trace a module's own forward as it runs in training, every child a leaf.

    Args:
        module: the module.
        path: its path in the network, for messages.
        supplied: the arguments of its forward that are given, by parameter name.
        level: what else belongs to the trace.
        without: paths of children in it that are `None`.

    Raises:
        UnsupportedError: torch.fx cannot follow it, or it draws numbers while it is traced.
    """
    draws = PythonsDraws()
    level = replace(level or Level(), watching=draws)
    with kept_random_states():
        tracer = _trace(module, path, supplied, TrainingFlag(1), level, without)
    if tracer.draws.has_drawn or draws.has_drawn:
        raise UnsupportedError(
            path,
            type(module).__name__,
            "its forward in training draws numbers that are no tensors of the network's size",
            f"Draw with x.new_empty(...).bernoulli_(p) and multiply by that. {_REMEDY}",
        )
    return tracer.graph


def _prefixes(paths: Iterable[str]) -> set[str]:
    """Modules that lie in another one, by their paths in it, and what holds them."""
    ends = [path.split(".") for path in paths if path]
    return {".".join(keys[:length]) for keys in ends for length in range(1, len(keys) + 1)}


_REMEDIES: Mapping[type[Exception], str] = {
    HandedOnError: "Hand on tensors, numbers and collections of these. What keeps something for "
    "later calls can often be turned off: by use_cache=False in the configuration of a language "
    "model, for instance.",
    HandedModuleError: "Let the module that calls it hold it, too: self.decoder.head = self.head "
    "in the constructor keeps one head under both names.",
    NotHeldError: "Hold it in an attribute, or in an nn.ModuleList or nn.ModuleDict, not in a "
    "plain list.",
    ChangedListError: "Let the submodule return what it puts into the list, and read that; or give "
    "it list(...) of yours.",
    NextCallError: "Let what it returns depend on what it is given, on parameters and on buffers "
    "alone; a number that it counts in may be a buffer, changed in place.",
    SetElsewhereError: "Give it to that module as an argument of its forward, or set it where the "
    "network is made.",
    SetAnewError: "Return what the next call needs and let the caller give it, or change the "
    "buffer in place, as self.steps += 1 does.",
    SetDataError: "Change it in place, as x.data.copy_(y) does, or go on with the other tensor.",
    SetPlacesError: "Make a new one of what it holds, or set the places by a mask.",
}


_UNPACKED = (
    "Prune it without the packing, and put that back into the written file: its recurrent layers "
    "take packed sequences as they always did."
)


# what Python says where a stand-in is an index
_INDEXED = re.compile(rf"(\w+) indices must be .* not '?{Known.__name__}'?")


_REMEDY = f"Or leave out what only training does (--drop {TRAINING})."


def _trace(
    module: nn.Module,
    path: str,
    supplied: Mapping[str, Any],
    flag: TrainingFlag,
    level: Level,
    without: Collection[str] = (),
) -> OneLevel:
    """The tracer of a module's forward, when it has traced that.

    Most forwards never ask what they are given. The others are traced once more, with what answers
    them in the place of functions of Python and torch, and again where another module asks.
    """
    if is_parametrized(module):
        raise UnsupportedError(
            path,
            type(module).__name__,
            "one of its weights is computed each time, not stored",
            "Make it a plain parameter first, with "
            "torch.nn.utils.parametrize.remove_parametrizations.",
        )
    attempt = functools.partial(_attempt, module, supplied, flag, level, without)
    with trace_alone(level.known):
        tracer, error, forgotten = _forgetting(attempt, remembered(module))
        if tracer.asks_cuda and not error:
            before = tracer.graph
            tracer, error = answered(functools.partial(attempt, forgotten, on_cuda=True))
            if not error and not alike_but_for_moves(before, tracer.graph):
                error = TypeError("where it runs on 'cuda' it may do something else")
    if tracer.hooked:  # what they are given is known where the forwards in between are followed
        level = replace(level, inlined=(*level.inlined, *tracer.hooked))
        return _trace(module, path, supplied, flag, level, without)
    if error:
        raise _untraceable(module, path, error, bool(flag)) from error
    tracer.by_sizes = tracer.decider.was_asked or bool(forgotten) or changes_tensors(tracer.graph)
    state_refuted(tracer.decider.refuted)
    without_views(tracer.graph)
    without_shaping(tracer.graph, module, supplied)
    without_augmented(tracer.graph, module, supplied)
    without_dead(tracer.graph)
    if forgotten:  # which way is gone depends on what the call before has kept
        for node in tracer.graph.nodes:
            node.meta.pop(TAKEN, None)
    put_together(tracer.graph, supplied)
    return tracer


def _forgetting(
    attempt: Callable[..., tuple[OneLevel, Exception | None]], names: frozenset[str]
) -> tuple[OneLevel, Exception | None, frozenset[str]]:
    """Trace a forward that makes anew what it keeps in attributes.

    Args:
        attempt: traces it, as `_attempt` does.
        names: of the attributes that may be such.

    Returns:
        The tracer, what the forward raises, if anything, and those that are such.
    """
    while True:
        tracer, error = answered(functools.partial(attempt, names))
        if isinstance(error, UsedError):
            left = frozenset([error.name])
        else:
            left = names if error else tracer.unmade
        if not left:
            return tracer, error, names
        names -= left


def _attempt(
    module: nn.Module,
    supplied: Mapping[str, Any],
    flag: TrainingFlag,
    level: Level,
    without: Collection[str],
    forgotten: Collection[str],
    on_cuda: bool = False,
    computes_numbers: bool = True,
) -> tuple[OneLevel, Exception | None]:
    """Trace a module's forward; what it raises, if anything, comes with the tracer."""
    in_training = bool(flag)
    flag.is_read = False
    holders = {child.rpartition(".")[0] for child in without}
    parts = _prefixes([*level.hooks, *level.inlined, *holders])
    isolation = Isolation(module, only=[module, *map(module.get_submodule, parts)])
    shadow = _shadow(isolation.of(module), held_numbers(module))
    for part in ("", *level.hooks, *level.inlined):
        shadow.get_submodule(part).training = flag  # type: ignore[assignment]
    for child in without:
        holder, _, name = child.rpartition(".")
        shadow.get_submodule(holder)._modules[name] = None
    within = _within(level, shadow, isolation)
    buffers = {name: held for name, held in named_buffers(shadow) if name not in forgotten}

    def another() -> OneLevel:
        tracer = OneLevel(shadow, supplied, within, in_training, on_cuda, level.forced)
        tracer.buffers = list(buffers.values())
        tracer.forgotten = Forgotten(shadow, forgotten)
        tracer.computes_numbers = computes_numbers
        tracer.decider.changing = level.changing
        return tracer

    tracer = another()
    hooks = [hook.function for _, own in level.hooks.values() for hook in own]
    held = {key: (x, x._version) for key, x in vars(shadow).items() if type(x) is Tensor}
    left = Left(shadow)
    try:
        with (
            kept_contents(*functions_of([module]), *hooks) as shared,
            kept_hooks(module),
            level.watching,
        ):
            _run(tracer, shadow)
            tracer.unmade = tracer.forgotten.not_made()
            _check_tensors(tracer, shadow, held, buffers, forgotten)
            if (found := left.put_back()) and not parts:  # which read it in this very trace
                raise SetElsewhereError(f"it sets self.{found[0]}, which that module reads")
            _check_next_calls(tracer.graph, another, shadow, left, shared)
    except Asked:
        pass
    except Exception as error:  # whatever the user's own forward raises when it meets a proxy
        return tracer, error
    finally:
        left.put_back()
    return tracer, None


def _run(tracer: OneLevel, shadow: nn.Module) -> None:
    with tracer.draws, tracer.made, tracer.contexts:
        tracer.trace(shadow)


def _check_tensors(
    tracer: OneLevel,
    shadow: nn.Module,
    held: Mapping[str, tuple[Tensor, int]],
    buffers: Mapping[str, Tensor],
    forgotten: Collection[str],
) -> None:
    """Check that the next call finds the tensors that are no parameters, or changes of buffers.

    Args:
        tracer: has traced the forward.
        shadow: the module.
        held: the tensors that it held as plain attributes, with their versions.
        buffers: those that it held.
        forgotten: the names of what the forward makes anew.

    Raises:
        NextCallError: it finds another plain one.
        SetAnewError: it finds another buffer.
    """
    for key in held.keys() & {node.target for node in tracer.graph.nodes if node.op == "get_attr"}:
        before, version = held[key]
        if vars(shadow)[key] is not before or before._version != version:
            raise NextCallError(f"it changes self.{key} from one call to the next")
    for key, now in shadow._buffers.items():
        if key not in forgotten and now is not buffers.get(key) and not _is_changed(now, key):
            raise SetAnewError(f"it sets self.{key} anew, for the next call")


_CALLS = 2  # after the first, as long as each leaves other numbers


def _check_next_calls(
    graph: fx.Graph,
    another: Callable[[], OneLevel],
    shadow: nn.Module,
    left: Left,
    shared: Contents,
) -> None:
    """Check that a forward does the same when it is called again.

    Args:
        graph: what it does at first.
        another: makes a tracer of it.
        shadow: the module.
        left: what it held.
        shared: what others can reach, too.

    Raises:
        NextCallError: it does something else, by numbers or words that the call before has left.
    """
    for _ in range(_CALLS):
        if not left.has_numbers(shared):
            return
        tracer = another()
        try:
            _run(tracer, shadow)
        except (Asked, Exception):  # of the calls after the first nothing is known, then
            return
        if not alike(graph, tracer.graph):
            raise NextCallError("it does something else when it is called again")


def _is_changed(now: Any, name: str) -> bool:
    """True for a buffer of this name that has been changed in place, as by `self.steps += 1`."""
    node = now.node if isinstance(now, fx.Proxy) else None
    while node is not None and is_in_place(node):
        node = node.all_input_nodes[0]
    return node is not None and (node.op, node.target) == ("get_attr", name)


def _within(level: Level, shadow: nn.Module, isolation: Isolation) -> Within:
    """What belongs to a trace, on the copies that are traced."""
    hooks = {
        shadow.get_submodule(part): (
            path,
            [replace(hook, function=isolation.of(hook.function)) for hook in own],
        )
        for part, (path, own) in level.hooks.items()
    }
    inlined = list(map(shadow.get_submodule, level.inlined))
    return Within(hooks, inlined, level.is_whole, level.followed)


def _stand_ins(shadow: nn.Module, named: Callable[..., Any], recurse: bool = True) -> Iterator[Any]:
    """What a traced forward goes through as its parameters: what it reads of them is no constant.

    Args:
        shadow: the module that is traced.
        named: its `named_parameters` or `named_buffers`.
        recurse: whether those of its children count.
    """
    for path, _ in named(recurse=recurse):
        yield functools.reduce(getattr, path.split("."), shadow)


def _shadow(shadow: nn.Module, numbers: Mapping[str, Any]) -> nn.Module:
    """A copy of a module as its traced forward sees it: what it reads of it is no constant.

    Args:
        shadow: the copy; it is changed.
        numbers: those that it holds, each knowing its name.
    """
    vars(shadow).update(numbers)
    for name, held in vars(shadow).items():
        if function := applying(held):
            vars(shadow)[name] = Applied(function)  # which looks for what stands in for it
    for name in ("parameters", "buffers"):
        vars(shadow)[name] = functools.partial(_stand_ins, shadow, getattr(shadow, f"named_{name}"))
    return shadow


def _untraceable(
    module: nn.Module, path: str, error: Exception, in_training: bool
) -> UnsupportedError:
    if isinstance(error, FollowedHookError):
        return _unfollowed(error)
    name = type(module).__name__
    forward = forward_of(module)
    if forward is nn.Module.forward:
        return UnsupportedError(
            path,
            name,
            "it has no forward",
            "Call its children from the forward of the module that holds it.",
        )
    plugin = f"plugin that owns {name} (hook prunecore_calculate_dependencies)"
    lines = str(error).strip().splitlines()
    reason = lines[0].rstrip(".") if lines else type(error).__name__
    if indexed := _INDEXED.fullmatch(reason):
        reason = f"it takes an item of a {indexed[1]} by a size, which Python does by numbers alone"
        remedy = "Look it up in a dictionary, {0: a, 1: b}[number]: the written network asserts it."
    elif raising_line(error, rnn.__file__):
        reason, remedy = "it packs sequences of several lengths", _UNPACKED
    elif isinstance(module, nn.RNNBase | nn.RNNCellBase) and is_of_torch(type(module)):
        remedy = "Install the plugin of recurrent layers: pip install prunecore-recurrent."
    elif is_of_torch(type(module)):
        remedy = f"This layer of torch is not followed: install or write a {plugin}."
    else:
        remedy = _REMEDIES.get(
            type(error),
            "Take the branch or conversion on tensor values out of its forward, or install or "
            f"write a {plugin}.",
        )
    others = f" {_REMEDY}" if in_training else ""
    return UnsupportedError(
        path,
        name,
        f"its forward{' in training' if in_training else ''} cannot be traced: {reason}",
        f"{remedy}{others}",
        raising_line(error, file_of(forward)),
    )


def _unfollowed(error: FollowedHookError) -> UnsupportedError:
    cause = error.__cause__
    assert cause is not None
    # a key alone says nothing
    reason = told(cause) if isinstance(cause, KeyError) or not str(cause) else str(cause)
    return UnsupportedError(
        error.path,
        type(error.module).__name__,
        f"its {error.hook} may change something and cannot be followed: "
        f"{reason.splitlines()[0].rstrip('.')}",
        f"Write it with functions of torch that decide nothing, or {leave_out(error.path)}.",
        raising_line(cause, file_of(error.hook.function)),
    )
