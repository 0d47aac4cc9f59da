"""Train and eval: the two graphs of a forward that reads `self.training`, merged into one."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any

from torch import Tensor, fx
from torch.utils import _pytree as pytree

from prunecore.channels.records import Trace
from prunecore.channels.signal import Computed, Picked, Signal
from prunecore.tracing.contexts import kinds
from prunecore.tracing.modules.attributes import TrainingFlag
from prunecore.tracing.nodes import IS_COPY

ONLY = "only"  # in a node's meta: the one of training and eval that alone computes it


IN_TRAINING, IN_EVAL = "training", "eval"


@dataclass(frozen=True)
class TrainEval:
    """A module's forward as it runs in eval mode and as it runs in training.

    Where both do the same, they are one graph.

    Attributes:
        eval: what eval mode does.
        training: what training does; `None` where that is something else and left out.
    """

    eval: fx.Graph
    training: fx.Graph | None

    @property
    def differ(self) -> bool:
        """True if training does something else that counts."""
        return self.training not in (self.eval, None)


def choose(in_training: Any, in_eval: Any) -> Any:
    """Stands in a merged graph for `in_training if self.training else in_eval`."""
    raise NotImplementedError("a merged graph is written, not run")


class ByMode(float):
    """A number in a merged graph that is another one in training; its value is that of eval mode.

    Attributes:
        in_training: the number in training.
        in_eval: that in eval mode, as the forward has it.
    """

    in_training: float
    in_eval: float

    @classmethod
    def of(cls, in_training: float, in_eval: float) -> ByMode:
        """The number of each mode."""
        number = cls(in_eval)
        number.in_training, number.in_eval = in_training, in_eval
        return number


def only_in(node: fx.Node) -> str | None:
    """The one of `IN_TRAINING` and `IN_EVAL` that alone computes a node; `None` for both."""
    return node.meta.get(ONLY)


def alike(first: fx.Graph, second: fx.Graph) -> bool:
    """True if two traces of one forward do the same."""
    if len(first.nodes) != len(second.nodes):
        return False
    numbers: dict[fx.Node, int] = {}
    for number, pair in enumerate(zip(first.nodes, second.nodes, strict=True)):
        if _described(pair[0], numbers) != _described(pair[1], numbers):
            return False
        numbers |= dict.fromkeys(pair, number)
    return True


def _described(
    node: fx.Node, numbers: Mapping[fx.Node, int] | None, with_fractions: bool = True
) -> Hashable:
    """What a node does; whatever nodes it uses, where these have no numbers.

    Without fractions, whatever fractions it is given.
    """

    def described(leaf: Any) -> str:
        if isinstance(leaf, fx.Node):
            return f"node {numbers.get(leaf)}" if numbers else "node"
        if not with_fractions and isinstance(leaf, float):
            return "a fraction"
        return "self.training" if isinstance(leaf, TrainingFlag) else repr(leaf)

    given = repr(fx.node.map_aggregate((node.args, node.kwargs), described))
    return node.op, node.target, given, kinds(node)


def merged(in_eval: Trace, in_training: Trace) -> Trace:
    """Two followed forwards of one module as one, whose nodes know in which they count.

    What both compute stands there once, and keeps the values of eval mode. Where it uses one thing
    in training and another one in eval mode, `choose` comes before it; where that is a number,
    such as the share that a dropout drops, it is given both.
    """
    return _Merger(in_eval, in_training).merge()


def in_both(in_eval: fx.Graph, in_training: fx.Graph) -> list[tuple[fx.Node, fx.Node]]:
    """The nodes that are one where two graphs are merged, in order, each as eval mode has it first.

    Args:
        in_eval: a forward as it runs in eval mode.
        in_training: the same as it runs in training.
    """
    ours, theirs = _computing(in_eval), _computing(in_training)
    pairs = {}
    after = (0, 0)
    for first, second in [*_matching(theirs, ours, True), (len(theirs), len(ours))]:
        between = theirs[after[0] : first], ours[after[1] : second]
        for place, other in _matching(*between, False):
            pairs[between[0][place]] = between[1][other]
        if first < len(theirs):
            pairs[theirs[first]] = ours[second]
        after = first + 1, second + 1
    while wrong := [node for node, other in pairs.items() if not _may_pair(node, other, pairs)]:
        for node in wrong:
            del pairs[node]
    return [(pairs[node], node) for node in theirs if node in pairs]


def _matching(
    theirs: list[fx.Node], ours: list[fx.Node], with_fractions: bool
) -> list[tuple[int, int]]:
    """The places of nodes that are described alike, in order."""
    first, second = (
        [_described(node, None, with_fractions) for node in side] for side in (theirs, ours)
    )
    match = SequenceMatcher(None, first, second, autojunk=False)
    return [
        (block.a + place, block.b + place)
        for block in match.get_matching_blocks()
        for place in range(block.size)
    ]


class _Merger:
    def __init__(self, in_eval: Trace, in_training: Trace) -> None:
        self.traces = {IN_EVAL: in_eval, IN_TRAINING: in_training}
        self.nodes = {phase: _computing(trace.graph) for phase, trace in self.traces.items()}
        self.outputs = {
            phase: next(node for node in trace.graph.nodes if node.op == "output")
            for phase, trace in self.traces.items()
        }
        self.graph = fx.Graph()
        self.values: dict[fx.Node, Any] = {}
        # the node of the merged graph for each of the two graphs' nodes
        self.copies: dict[str, dict[fx.Node, fx.Node]] = {IN_EVAL: {}, IN_TRAINING: {}}
        self.metas: dict[int, Tensor] = {}  # those of eval mode, by those of training
        self.known: dict[int, Signal] = {}  # tensors as the merged graph has them

    def merge(self) -> Trace:
        rest = dict(self.nodes)
        graphs = {phase: trace.graph for phase, trace in self.traces.items()}
        for ours, theirs in in_both(graphs[IN_EVAL], graphs[IN_TRAINING]):
            pair = {IN_TRAINING: theirs, IN_EVAL: ours}
            for phase, node in pair.items():
                place = rest[phase].index(node)
                for alone in rest[phase][:place]:
                    self._copy(alone, phase, phase)
                rest[phase] = rest[phase][place + 1 :]
            self._copy_pair(pair)
        given = [
            fx.node.map_arg(self.outputs[phase].args, self.copies[phase].get)
            for phase in (IN_TRAINING, IN_EVAL)
        ]
        if any(rest.values()) or given[0] != given[1]:
            for node in [*rest[IN_TRAINING], self.outputs[IN_TRAINING]]:
                self._copy(node, IN_TRAINING, IN_TRAINING)
        for node in [*rest[IN_EVAL], self.outputs[IN_EVAL]]:
            self._copy(node, IN_EVAL, None)
        trace = self.traces[IN_EVAL]
        return Trace(trace.module, self.graph, self.values, trace.output)

    def _of_merged(self, signal: Signal) -> Signal:
        """A tensor of training that was taken of what both modes compute, as eval mode has that."""
        picked = signal.origin_as(Picked)
        if picked is None or id(picked.source.meta) not in self.metas:
            return signal
        if id(signal) not in self.known:
            source = replace(picked.source, meta=self.metas[id(picked.source.meta)])
            of_eval = replace(picked, source=source)
            own = signal.origin
            origin = replace(own, before=of_eval) if isinstance(own, Computed) else of_eval
            self.known[id(signal)] = replace(signal, origin=origin)
        return self.known[id(signal)]

    def _copy(self, node: fx.Node, phase: str, only: str | None) -> None:
        copy = self.graph.node_copy(node, self.copies[phase].__getitem__)
        if only is not None:
            copy.meta[ONLY] = only
        self.copies[phase][node] = copy
        if node in self.traces[phase].values:
            value = self.traces[phase].values[node]
            self.values[copy] = pytree.tree_map_only(Signal, self._of_merged, value)

    def _copy_pair(self, pair: Mapping[str, fx.Node]) -> None:
        """Copy what both do, after the choices between what they do it with."""
        choices: dict[tuple[fx.Node, fx.Node], fx.Node] = {}
        used = []  # in the order of the arguments, in which one node may stand for several
        for theirs, ours in _arguments(pair[IN_TRAINING], pair[IN_EVAL]):
            both = self.copies[IN_TRAINING][theirs], self.copies[IN_EVAL][ours]
            if _is_same_tensor(*both):
                both = both[1], both[1]
            if both[0] is not both[1] and both not in choices:
                choices[both] = self.graph.call_function(choose, both)
                self.values[choices[both]] = self.values[both[1]]
            used.append(choices.get(both, both[1]))
        given, numbers = iter(used), iter(_fractions(pair[IN_TRAINING]))

        def in_both_modes(leaf: Any) -> Any:
            if isinstance(leaf, fx.Node):
                return next(given)
            if not isinstance(leaf, float):
                return leaf
            in_training = next(numbers)
            return leaf if repr(in_training) == repr(leaf) else ByMode.of(in_training, leaf)

        copy = self.graph.node_copy(pair[IN_EVAL], self.copies[IN_EVAL].__getitem__)
        copy.args, copy.kwargs = fx.node.map_aggregate(
            (pair[IN_EVAL].args, pair[IN_EVAL].kwargs), in_both_modes
        )
        copy.meta[IS_COPY] = any(node.meta.get(IS_COPY, False) for node in pair.values())
        values = {phase: self.traces[phase].values[node] for phase, node in pair.items()}
        self.values[copy] = values[IN_EVAL]
        trees = [pytree.tree_flatten(values[phase]) for phase in (IN_TRAINING, IN_EVAL)]
        # a submodule may return more in training, of which only what training does takes parts
        leaves = [tree[0] for tree in trees] if trees[0][1] == trees[1][1] else [[], []]
        for theirs, ours in zip(*leaves, strict=True):
            if isinstance(theirs, Signal) and isinstance(ours, Signal):
                self.metas[id(theirs.meta)] = ours.meta
        for phase, node in pair.items():
            self.copies[phase][node] = copy


def _is_same_tensor(theirs: fx.Node, ours: fx.Node) -> bool:
    """True if both read one parameter or buffer, whatever training has done to it."""
    return theirs.op == ours.op == "get_attr" and theirs.target == ours.target


def _computing(graph: fx.Graph) -> list[fx.Node]:
    return [node for node in graph.nodes if node.op != "output"]


def _fractions(node: fx.Node) -> list[float]:
    """The fractions that a node is given, in order."""
    fractions: list[float] = []

    def note(leaf: Any) -> Any:
        if isinstance(leaf, float):
            fractions.append(leaf)
        return leaf

    fx.node.map_aggregate((node.args, node.kwargs), note)
    return fractions


def _arguments(theirs: fx.Node, ours: fx.Node) -> list[tuple[fx.Node, fx.Node]]:
    """The nodes that two nodes of one description use, pairwise."""
    sides = [_nodes_in(node) for node in (theirs, ours)]
    return list(zip(*sides, strict=True))


def _nodes_in(node: fx.Node) -> list[fx.Node]:
    nodes: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), nodes.append)
    return nodes


def _may_pair(theirs: fx.Node, ours: fx.Node, pairs: Mapping[fx.Node, fx.Node]) -> bool:
    """True if two calls that are alike are one call.

    A layer is the same one whatever it is given. A function of different things is one call if all
    that it is used for is the same, too: else two functions of one name only happen to meet.
    """
    if theirs.op not in ("call_function", "call_method"):
        return True
    if all(pairs.get(first) is second for first, second in _arguments(theirs, ours)):
        return True
    used = [pairs.get(user) for user in theirs.users]
    return None not in used and set(used) == set(ours.users)
