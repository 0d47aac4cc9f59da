"""Calls of a traced forward, tried on tensors of the kept widths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from prunecore.functions import FunctionRule
from prunecore.keep import Keep
from prunecore.records import Trace
from prunecore.signal import Ids, Signal, shaped


def picking(trace: Trace, node: fx.Node) -> list[Signal]:
    """The tensors that a call has taken places for; none if it takes none."""
    if node.op not in ("call_function", "call_method"):
        return []
    given = pytree.tree_leaves([trace.values[source] for source in node.all_input_nodes])
    return [
        leaf
        for leaf in pytree.tree_leaves(trace.values[node])
        if isinstance(leaf, Signal)
        and leaf.picked is not None
        and not any(leaf is other for other in given)  # it is only passed on
    ]


class Rehearsal:
    """Tries calls of a forward that take places of tensors by their number.

    Args:
        trace: the forward.
        keep: what stays.
        functions: the rules.
    """

    def __init__(
        self, trace: Trace, keep: Keep, functions: Mapping[Callable[..., Any], FunctionRule]
    ) -> None:
        self.trace = trace
        self._keep = keep
        self._functions = functions
        self._known: dict[fx.Node, Any] = {}

    def source(self, node: fx.Node) -> fx.Node:
        """The tensor whose places a call takes, before all functions that moved them."""
        return self._way(node)[0]

    def tensor(self, source: fx.Node) -> Signal:
        """The tensor that a call takes places of, its channels along one axis."""
        signal: Signal = self.trace.values[source]
        return signal.grid.settled[-1] if signal.grid else signal

    def takes(self, node: fx.Node, signals: Sequence[Signal], parts: Sequence[Ids]) -> bool:
        """Whether a call takes these places, as it would be written with the kept widths.

        Args:
            node: the call.
            signals: the tensors that it returns.
            parts: the numbers of the places that each should have, among the kept ones.
        """
        source, *way = self._way(node)
        tensor = self.tensor(source)
        (axis,) = tensor.channel_axes
        shape = self._keep.shape(tensor)
        layout = [-1 if other == axis else 1 for other in range(tensor.ndim)]
        numbers = torch.arange(shape[axis], dtype=torch.float32).view(layout)
        self._known[source] = numbers.expand(shape).contiguous()
        try:
            for step in way:
                self._known[step] = self._run(step)
                if not _fits(self._known[step], self.trace.values[step]):
                    return False
        except (RuntimeError, ValueError, IndexError, TypeError):
            return False
        results = pytree.tree_leaves(self._known[node])
        return len(results) == len(parts) and all(map(_has, results, signals, parts))

    def number(self, node: fx.Node) -> Any:
        """What a number that a forward computes is with the kept widths."""
        return self._value(node)

    def _way(self, node: fx.Node) -> list[fx.Node]:
        """The calls that lead to this one, from the tensor that they moved the places of."""
        way = [node]
        while len(way) == 1 or (
            self._rule(way[1]).takes_grids and self.trace.values[way[0]].grid is not None
        ):
            tensors = [
                source
                for source in way[0].all_input_nodes
                if isinstance(self.trace.values[source], Signal)
            ]
            way.insert(0, tensors[0])
        return way

    def _target(self, node: fx.Node) -> Any:
        return getattr(Tensor, node.target) if isinstance(node.target, str) else node.target

    def _rule(self, node: fx.Node) -> FunctionRule:
        return self._functions[self._target(node)]

    def _run(self, node: fx.Node) -> Any:
        target = self._target(node)
        arguments: Any = (node.args, dict(node.kwargs))
        rule = self._functions.get(target)
        if rule is not None and rule.rewrite is not None:
            arguments = rule.rewrite(arguments, self.trace.values[node], self._keep)
        args, kwargs = fx.node.map_arg(arguments, self._value)
        return target(*args, **kwargs)

    def _value(self, node: fx.Node) -> Any:
        """What a node is with the kept widths: a tensor's shape, a number that depends on such."""
        if node not in self._known:
            value = self.trace.values[node]
            leaves = pytree.tree_leaves(value)
            if any(isinstance(leaf, Signal) for leaf in leaves):
                self._known[node] = pytree.tree_map_only(Signal, self._stand_in, value)
            elif node.op in ("call_function", "call_method"):
                self._known[node] = self._run(node)
            else:
                self._known[node] = value
        return self._known[node]

    def _stand_in(self, signal: Signal) -> Tensor:
        stored = signal.parameter
        if stored is not None and not stored.is_floating_point():
            return stored  # an index
        return shaped(self._keep.shape(signal))


def _fits(result: Any, signal: Any) -> bool:
    """Whether a tensor has the sizes that it should along the axes without channels."""
    if not isinstance(signal, Signal):
        return True
    return result.ndim == signal.ndim and all(
        signal.carries_channels(axis) or size == result.shape[axis]
        for axis, size in enumerate(signal.shape)
    )


def _has(result: Tensor, signal: Signal, places: Ids) -> bool:
    """Whether a tensor has these places along the axis on which its channels lie."""
    numbers = torch.from_numpy(places).to(result.dtype)
    if not signal.channel_axes:
        return bool((result == numbers).all())
    (axis,) = signal.channel_axes
    lines = result.movedim(axis, 0).flatten(1) if result.ndim > 1 else result[:, None]
    return len(lines) == len(numbers) and bool((lines == numbers[:, None]).all())
