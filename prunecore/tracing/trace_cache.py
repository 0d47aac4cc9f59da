"""The traces of a network's modules, each made once: for other arguments and other sizes, too."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import fx, nn
from torch.utils import _pytree as pytree

from prunecore.channels.names import is_within, join, module_paths
from prunecore.channels.records import TRAINING
from prunecore.channels.signal import Signal
from prunecore.errors import UsageError
from prunecore.isolation.copies import Isolation
from prunecore.tracing.arguments import is_constant
from prunecore.tracing.conditions import Taken
from prunecore.tracing.modules.attributes import TrainingFlag
from prunecore.tracing.modules.module_hooks import Hook
from prunecore.tracing.modules.scopes import Scopes
from prunecore.tracing.nodes import NAME
from prunecore.tracing.reuse import Kept, likeness
from prunecore.tracing.symbolic_trace import Level, trace_level, trace_training
from prunecore.tracing.ways.size_branches import other_ways, sized_for
from prunecore.tracing.ways.train_eval import TrainEval


class TraceCache:
    """Traces the modules of a network, each once; the network itself is not touched.

    Args:
        model: the network.
        scopes: where what modules do beside their class's forward is followed.
        drop: paths of modules that training is to do without; `training` is all that eval mode
            does not do.
        rules: the functions that are known, which a trace does not go through where
            `torch.fx.wrap` marks them.

    Attributes:
        differing: paths of the modules that do something else in training.
        lacking: paths of those of which that is left out, whatever it is.
        as_in_eval: paths of those of which all that it calls is dropped: as in eval mode.
        absent: paths of the modules that the others of them do without.
        followed: paths of the modules whose hooks are a part of a trace.
    """

    def __init__(
        self,
        model: nn.Module,
        scopes: Scopes,
        drop: Collection[str],
        rules: Collection[Callable[..., Any]],
    ) -> None:
        self.differing: set[str] = set()
        self.lacking: set[str] = set()
        self.as_in_eval: set[str] = set()
        self.absent: set[str] = set()
        self.followed: set[str] = set()
        self._drop = drop
        self._rules = rules
        self._scopes = scopes
        self._isolation = Isolation(model)
        self._model = model
        self._graphs: dict[Hashable, TrainEval] = {}
        self._changing: dict[Any, bool] = {}  # whether kinds of modules change lists
        self._kept: dict[Hashable, Kept] = {}  # by what modules are alike in that share a trace
        self._by_sizes: set[type] = set()  # the classes whose traces go by sizes
        self._others: dict[Hashable, Mapping[tuple[Taken, ...], fx.Graph]] = {}

    @functools.cached_property
    def _paths(self) -> dict[int, str]:
        return module_paths(self._model)

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
        self,
        module: nn.Module,
        path: str,
        supplied: Mapping[str, Any],
        absent: frozenset[str],
        in_training: bool,
    ) -> fx.Graph:
        """A module's forward in training or eval mode, every child a leaf.

        In training without the children that are dropped. If it would be without all that only
        training calls, it is the forward of eval mode.

        Args:
            module: the module.
            path: its path in the network.
            supplied: the arguments of its forward that are given, by parameter name.
            absent: the names of those that are `None`.
            in_training: whether it is that of training.

        Raises:
            UnsupportedError: it cannot be traced.
        """
        graphs = self._traced(module, path, supplied, absent)
        if graphs.training is None:
            self.lacking.add(path)
        elif graphs.differ:
            self.differing.add(path)
        if not in_training or graphs.training in (graphs.eval, None):
            return graphs.eval
        only = _called(graphs.training) - _called(graphs.eval)
        dropped = {child for child in only if is_within(join(path, child), self._drop)}
        if not dropped:
            return graphs.training
        if dropped == only:
            self.as_in_eval.add(path)
            return graphs.eval
        self.absent |= {join(path, child) for child in dropped}
        copied = self._isolation.of(module)
        return trace_training(copied, path, supplied, self._level(module, path), dropped)

    def other_sizes(
        self,
        module: nn.Module,
        path: str,
        supplied: Mapping[str, Any],
        absent: frozenset[str],
        natural: fx.Graph,
        in_training: bool,
    ) -> Mapping[tuple[Taken, ...], fx.Graph]:
        """A module's forward as it goes for inputs of other sizes.

        Args:
            module: the module, whose forward has been traced.
            path: its path in the network.
            supplied: the arguments of its forward that are given, by parameter name.
            absent: the names of those that are `None`.
            natural: its trace for the given sizes.
            in_training: whether it is that of training.

        Returns:
            The traces, by what they do at their branches on sizes; none where training does without
            some of what it calls.
        """
        key = _key(path, supplied, absent), in_training
        if key not in self._others:
            graphs = self._traced(module, path, supplied, absent)

            def trace(forced: Sequence[bool], given: Mapping[str, Any]) -> fx.Graph:
                other = self._traced(module, path, given, absent, tuple(forced))
                if other.differ:
                    self.differing.add(path)
                return (in_training and other.training) or other.eval

            is_whole = natural in (graphs.eval, graphs.training)
            sized = functools.partial(sized_for, self._isolation.of(module), in_training)
            ways = other_ways(natural, supplied, trace, sized) if is_whole else {}
            self._others[key] = ways
        return self._others[key]

    def _traced(
        self,
        module: nn.Module,
        path: str,
        supplied: Mapping[str, Any],
        absent: frozenset[str],
        forced: tuple[bool, ...] = (),
    ) -> TrainEval:
        """A module's forward that goes these ways at its first branches on sizes."""
        key = _key(path, supplied, absent), forced
        if key not in self._graphs:
            alike = self._alike(module, path, supplied, absent, forced)
            if alike in self._kept:
                self._graphs[key] = self._kept[alike].copy()
                return self._graphs[key]
            both = TRAINING not in self._drop
            level = replace(self._level(module, path), forced=forced)
            copied = self._isolation.of(module)
            traced = trace_level(copied, path, supplied, both, level)
            self._graphs[key] = traced
            _name(traced, absent, forced)
            if traced.by_sizes and type(module) not in self._by_sizes:
                self._by_sizes.add(type(module))
                alike = self._alike(module, path, supplied, absent, forced)
            if alike is not None:
                self._kept[alike] = Kept(traced)
        return self._graphs[key]

    def _alike(
        self,
        module: nn.Module,
        path: str,
        supplied: Mapping[str, Any],
        absent: frozenset[str],
        forced: tuple[bool, ...],
    ) -> Hashable | None:
        """What modules are alike in that share a trace; `None` for one that shares with none."""
        if not path or self._scopes.hooks or self._scopes.inlined:
            return None
        by_sizes = type(module) in self._by_sizes
        told = likeness(module, supplied, by_sizes)
        if told is None and not by_sizes:
            by_sizes, told = True, likeness(module, supplied)
        return None if told is None else (by_sizes, told, absent, forced)

    def _level(self, module: nn.Module, path: str) -> Level:
        """What belongs to the trace of a module beside its forward."""
        scopes = self._scopes
        is_whole = not path and "" in scopes.opened
        hooks: dict[str, tuple[str, Sequence[Hook]]] = {}
        inlined = []
        for part, child in module.named_modules() if scopes.hooks or scopes.inlined else ():
            place = self._paths[id(child)]
            if place in scopes.hooks and (part or is_whole):
                of_copies = [
                    replace(hook, function=self._isolation.of(hook.function))
                    for hook in scopes.hooks[place]
                ]
                hooks[part] = place, of_copies
            if place in scopes.inlined and part:
                inlined.append(part)
        changing = self._changing
        return Level(hooks, inlined, is_whole, self.followed, self._rules, changing=changing)


def _key(path: str, supplied: Mapping[str, Any], absent: frozenset[str]) -> Hashable:
    """What a trace of a module depends on."""
    leaves, structure = pytree.tree_flatten(dict(supplied))
    told = tuple(map(_told, leaves))
    return path, str(structure), told, absent


def _told(leaf: Any) -> Hashable:
    """What a trace sees of one thing that a module is given."""
    if isinstance(leaf, Signal):
        return leaf.shape
    is_read = isinstance(leaf, TrainingFlag)  # if it is compared
    return leaf if is_constant(leaf) and not is_read else None


def _name(graphs: TrainEval, absent: Collection[str], forced: Sequence[bool]) -> None:
    """Tell the nodes of a forward from those of the other ways that it goes."""
    lacks = f" without {', '.join(sorted(absent))}" if absent else ""
    goes = f", way {''.join(str(int(holds)) for holds in forced)}" if forced else ""
    for node in graphs.eval.nodes if lacks or goes else ():
        node.meta[NAME] = f"{node.name}{lacks}{goes}"


def _called(graph: fx.Graph) -> set[str]:
    return {str(node.target) for node in graph.nodes if node.op == "call_module"}
