"""One level of a module's own forward as a torch.fx graph, every child a leaf."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Any

from torch import fx, nn
from torch.utils import _pytree as pytree

from prunecore.channels.records import TRAINING, is_within
from prunecore.channels.signal import Signal
from prunecore.errors import UnsupportedError, UsageError
from prunecore.tracing.arguments import put_together
from prunecore.tracing.attributes import Training, held_numbers, shadow
from prunecore.tracing.patches import standing_in, trace_alone
from prunecore.tracing.source_lines import file_of, raising_line
from prunecore.tracing.tracer import (
    Asked,
    ChangedListError,
    NotHeldError,
    OneLevel,
    forward_of,
    without_views,
)
from prunecore.tracing.train_eval import Modes, alike


def trace_level(
    module: nn.Module,
    path: str,
    supplied: Mapping[str, Any],
    both: bool = True,
    known: Collection[Callable[..., Any]] = (),
) -> Modes:
    """Trace a module's own forward, every child a leaf.

    The module itself is not touched: the tracer works on a shallow copy. Training is traced only
    where eval mode reads `self.training` for more than to hand it on.

    Args:
        module: the module.
        path: its path in the network, for messages.
        supplied: the arguments of its forward that are given, by parameter name.
        both: whether training counts.
        known: the functions that there are rules for, which a trace does not go through where
            `torch.fx.wrap` marks them.

    Raises:
        UnsupportedError: its forward does what torch.fx cannot follow, such as branching on data.
    """
    flag = Training(0)
    graph = _trace(module, path, supplied, flag, known).graph
    if not flag.is_read:
        return Modes(graph, graph)
    if not both:
        return Modes(graph, None)
    other = trace_training(module, path, supplied, known=known)
    return Modes(graph, graph if alike(graph, other) else other)


def trace_training(
    module: nn.Module,
    path: str,
    supplied: Mapping[str, Any],
    without: Collection[str] = (),
    known: Collection[Callable[..., Any]] = (),
) -> fx.Graph:
    """Trace a module's own forward as it runs in training, every child a leaf.

    Args:
        module: the module.
        path: its path in the network, for messages.
        supplied: the arguments of its forward that are given, by parameter name.
        without: paths of children in it that are `None`.
        known: the functions that there are rules for, as for `trace_level`.

    Raises:
        UnsupportedError: torch.fx cannot follow it, or it draws numbers while it is traced.
    """
    before = random.getstate()
    tracer = _trace(module, path, supplied, Training(1), known, without)
    draws = tracer.draws.has_drawn or before != random.getstate()
    random.setstate(before)
    if draws:
        raise UnsupportedError(
            path,
            type(module).__name__,
            "its forward in training draws numbers that are no tensors of the network's size",
            f"Draw with x.new_empty(...).bernoulli_(p) and multiply by that. {_REMEDY}",
        )
    return tracer.graph


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
    known: Collection[Callable[..., Any]],
    without: Collection[str] = (),
) -> OneLevel:
    """The tracer of a module's forward, when it has traced that.

    Most forwards never ask what they are given. The others are traced once more, with what answers
    them in the place of functions of Python and torch.
    """
    with trace_alone(known):
        tracer, error = _attempt(module, path, supplied, flag, without, stands_in=False)
        if tracer.is_asked or error:
            with standing_in():
                tracer, error = _attempt(module, path, supplied, flag, without, stands_in=True)
    if error:
        raise _untraceable(module, path, error, bool(flag)) from error
    without_views(tracer.graph)
    put_together(tracer.graph, supplied)
    return tracer


def _attempt(
    module: nn.Module,
    path: str,
    supplied: Mapping[str, Any],
    flag: Training,
    without: Collection[str],
    stands_in: bool,
) -> tuple[OneLevel, Exception | None]:
    """Trace a module's forward; what it raises, if anything, comes with the tracer."""
    flag.is_read = False
    tracer = OneLevel(module, supplied, stands_in)
    forward = forward_of(module)
    if forward is not type(module).forward:
        tracer.traced_func_name = forward.__name__
    shadow = _prepared(module, path, flag, without)
    try:
        with tracer.draws, tracer.made:
            tracer.trace(shadow)
    except Asked:
        pass
    except Exception as error:  # whatever the user's own forward raises when it meets a proxy
        return tracer, error
    return tracer, None


def _prepared(module: nn.Module, path: str, flag: Training, without: Collection[str]) -> nn.Module:
    """A shallow copy of a module, to be traced in its place.

    Args:
        module: the module.
        path: its path in the network, for messages.
        flag: what its forward sees as `self.training`.
        without: paths of children in it that are `None`.

    Raises:
        UnsupportedError: torch refuses to copy it, as it does a parametrized module.
    """
    try:
        copied = shadow(module)
    except RuntimeError as error:
        raise UnsupportedError(
            path,
            type(module).__name__,
            "one of its weights is computed each time, not stored",
            "Make it a plain parameter first, with "
            "torch.nn.utils.parametrize.remove_parametrizations.",
        ) from error
    vars(copied).update(held_numbers(module))
    copied.training = flag  # type: ignore[assignment]
    for child in without:
        holder = copied
        *outer, name = child.split(".")
        for key in outer:
            holder._modules[key] = shadow(holder.get_submodule(key))
            holder = holder.get_submodule(key)
        holder._modules[name] = None
    return copied


def _untraceable(
    module: nn.Module, path: str, error: Exception, in_training: bool
) -> UnsupportedError:
    name = type(module).__name__
    forward = forward_of(module)
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


class Forwards:
    """Traces the modules of a network, each once.

    Args:
        drop: paths of modules that training is to do without; `training` is all that eval mode
            does not do.
        rules: the functions that are known, which a trace does not go through where
            `torch.fx.wrap` marks them.

    Attributes:
        differing: paths of the modules that do something else in training.
        lacking: paths of those of which that is left out, whatever it is.
        as_in_eval: paths of those of which all that it calls is dropped: as in eval mode.
        absent: paths of the modules that the others of them do without.
    """

    def __init__(self, drop: Collection[str], rules: Collection[Callable[..., Any]]) -> None:
        self.differing: set[str] = set()
        self.lacking: set[str] = set()
        self.as_in_eval: set[str] = set()
        self.absent: set[str] = set()
        self._drop = drop
        self._rules = rules
        self._modes: dict[Hashable, Modes] = {}

    def check(self, path: str, in_training: bool) -> None:
        """Check that a module that is called is not one to be left out.

        Raises:
            UsageError: it is.
        """
        if not is_within(path, self._drop):
            return
        if in_training:
            raise UsageError(
                f"{path} cannot be dropped by itself: what calls it is followed by a plugin.\n"
                "Drop the module that holds it."
            )
        raise UsageError(
            f"{path} cannot be dropped: the network calls it in eval mode, too.\n"
            "Drop a module that only training reaches, such as an auxiliary head."
        )

    def graph(
        self, module: nn.Module, path: str, supplied: Mapping[str, Any], in_training: bool
    ) -> fx.Graph:
        """A module's forward in one of the modes, every child a leaf.

        In training without the children that are dropped. If it would be without all that only
        training calls, it is the forward of eval mode.

        Args:
            module: the module.
            path: its path in the network.
            supplied: the arguments of its forward that are given, by parameter name.
            in_training: the mode.

        Raises:
            UnsupportedError: it cannot be traced.
        """
        leaves, structure = pytree.tree_flatten(dict(supplied))
        shapes = tuple(leaf.shape if isinstance(leaf, Signal) else None for leaf in leaves)
        key = path, str(structure), shapes
        if key not in self._modes:
            both = TRAINING not in self._drop
            self._modes[key] = trace_level(module, path, supplied, both, self._rules)
        modes = self._modes[key]
        if modes.training is None:
            self.lacking.add(path)
        elif modes.differ:
            self.differing.add(path)
        if not in_training or modes.training in (modes.eval, None):
            return modes.eval
        only = _called(modes.training) - _called(modes.eval)
        dropped = {child for child in only if is_within(_join(path, child), self._drop)}
        if not dropped:
            return modes.training
        if dropped == only:
            self.as_in_eval.add(path)
            return modes.eval
        self.absent |= {_join(path, child) for child in dropped}
        return trace_training(module, path, supplied, dropped, self._rules)


def _called(graph: fx.Graph) -> set[str]:
    return {str(node.target) for node in graph.nodes if node.op == "call_module"}


def _join(path: str, child: str) -> str:
    return f"{path}.{child}" if path else child
