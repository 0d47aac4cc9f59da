"""Rehearsal of a traced forward's calls on tensors of the kept widths."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from prunecore.channels.computed import as_followed, is_open
from prunecore.channels.ids import Ids
from prunecore.channels.keep import Keep
from prunecore.channels.records import Trace
from prunecore.channels.signal import Signal, map_signals, shaped
from prunecore.functions.rule import Arguments, FunctionRule
from prunecore.isolation.random_states import OwnDraws
from prunecore.tracing.conditions import Condition, choose, chosen, deciding_on, is_run, only_in
from prunecore.tracing.nodes import function_of
from prunecore.walking.calls import way

Functions = Mapping[Callable[..., Any], FunctionRule]


def rehearsals(trace: Trace, keep: Keep, functions: Functions) -> list[Rehearsal]:
    """One for each way that a forward goes: in eval mode and training, with and without inputs.

    Args:
        trace: the forward.
        keep: what stays.
        functions: the rules.
    """
    return [Rehearsal(trace, keep, functions, holding) for holding in _ways(trace.graph)]


def _ways(graph: fx.Graph) -> list[dict[Condition, bool]]:
    """The ways through a merged graph: which of the conditions that each comes to hold."""
    asked = dict.fromkeys(
        (condition, only_in(node)[:depth])
        for node in graph.nodes
        for depth, condition in enumerate(deciding_on(node))
    )
    ways: list[dict[Condition, bool]] = [{}]
    for condition, outer in asked:
        ways = [
            {**way, **side}
            for way in ways
            for side in (
                ({condition: True}, {condition: False})
                if condition not in way and all(way.get(one) == holds for one, holds in outer)
                else ({},)
            )
        ]
    return ways


class Rehearsal:
    """Tries calls of a forward that take places of tensors by their number.

    Args:
        trace: the forward.
        keep: what stays.
        functions: the rules.
        holding: which conditions of the forward hold.
    """

    def __init__(
        self, trace: Trace, keep: Keep, functions: Functions, holding: Mapping[Condition, bool]
    ) -> None:
        self.trace = trace
        self._holding = holding
        self._keep = keep
        self._functions = functions
        self._known: dict[fx.Node, Any] = {}
        self._arguments: dict[fx.Node, Any] = {}

    def runs(self, node: fx.Node) -> bool:
        """True if the forward comes to a node."""
        return is_run(node, self._holding)

    def source(self, node: fx.Node, tensor: Signal) -> fx.Node:
        """What computes the tensor whose places a call takes."""
        return way(self.trace, node, tensor, self._holding)[0]

    def takes(
        self, node: fx.Node, tensor: Signal, signals: Sequence[Signal], parts: Sequence[Ids]
    ) -> bool:
        """True if a call takes these places, as it would be written with the kept widths.

        Args:
            node: the call.
            tensor: what it takes them of.
            signals: the tensors that it returns.
            parts: the numbers of the places that each should have, among the kept ones.
        """
        source, *steps = way(self.trace, node, tensor, self._holding)
        (axis,) = tensor.channel_axes
        shape = self._keep.shape(tensor)
        layout = [-1 if other == axis else 1 for other in range(tensor.ndim)]
        numbers = torch.arange(shape[axis], dtype=torch.float32).view(layout)
        self._known[source] = numbers.expand(shape).contiguous()
        try:
            for step in steps:
                self._known[step] = self._run(step)
                values = as_followed(self.trace.values[step])
                if not any(_fits(self._known[step], value) for value in values):
                    return False
        except (RuntimeError, ValueError, IndexError, TypeError):
            return False
        results = pytree.tree_leaves(self._known[node])
        return len(results) == len(parts) and all(map(_has, results, signals, parts))

    def _run(self, node: fx.Node) -> Any:
        if node.target is choose:
            source = chosen(node, self._holding)
            return None if source is None else self.value(source)
        target = function_of(node)
        arguments: Any = (node.args, dict(node.kwargs))
        rule = self._functions.get(target)
        if rule is not None and rule.rewrite is not None:
            for value in as_followed(self.trace.values[node]):
                arguments = rule.rewrite(arguments, value, self._keep)
        args, kwargs = fx.node.map_arg(arguments, self.value)
        if target is operator.setitem:  # it returns nothing; what it sets is what it would take
            return operator.getitem(*args[:2])
        return target(*args, **kwargs)

    def arguments(self, node: fx.Node, rewrite: Callable[..., Arguments]) -> Any:
        """The arguments of a call, as it would be written with the kept widths.

        Args:
            node: the call.
            rewrite: as its rule has it.
        """
        if node not in self._arguments:
            given = rewrite((node.args, dict(node.kwargs)), self.trace.values[node], self._keep)
            self._arguments[node] = fx.node.map_arg(given, self.value)
        return self._arguments[node]

    def value(self, node: fx.Node) -> Any:
        """What a node is with the kept widths: a tensor's shape, a number that depends on such."""
        if node not in self._known:
            value = self.trace.values[node]
            leaves = pytree.tree_leaves(value)
            if node.target is choose:  # whose value is that of one of the ways
                self._known[node] = self._run(node)
            elif any(isinstance(leaf, Signal) for leaf in leaves) and not _is_of_weights(value):
                self._known[node] = map_signals(self._stand_in, value)
            elif node.op in ("call_function", "call_method"):
                with OwnDraws():
                    self._known[node] = self._run(node)
            else:
                self._known[node] = value
        return self._known[node]

    def _stand_in(self, signal: Signal) -> Tensor:
        stored = signal.parameter
        if stored is not None and not stored.is_floating_point():
            return stored  # an index
        if stored is None:
            return shaped(self._keep.shape(signal), signal.meta.dtype)
        widths = [self._keep.width(stored, axis) for axis in range(stored.ndim)]
        return shaped(widths, signal.meta.dtype)


def _is_of_weights(value: Any) -> bool:
    """True for what is computed of parameters, which may be cut along several axes."""
    return isinstance(value, Signal) and value.computed is not None and is_open(value)


def _fits(result: Any, signal: Any) -> bool:
    """True if a tensor has the sizes that it should along the axes without channels."""
    if not isinstance(signal, Signal):
        return True
    return result.ndim == signal.ndim and all(
        signal.may_be_cut(axis) or size == result.shape[axis]
        for axis, size in enumerate(signal.shape)
    )


def _has(result: Tensor, signal: Signal, places: Ids) -> bool:
    """True if a tensor has these places along the axis on which its channels lie."""
    numbers = torch.from_numpy(places).to(result.dtype)
    if not len(places):
        return result.numel() == 0
    if not signal.channel_axes:
        return bool((result == numbers).all())
    (axis,) = signal.channel_axes
    lines = result.movedim(axis, 0).flatten(1) if result.ndim > 1 else result[:, None]
    return len(lines) == len(numbers) and bool((lines == numbers[:, None]).all())
