"""Which nodes of two graphs of one forward are one: of two modes, with and without some inputs."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from torch import fx

from prunecore.tracing.conditions import TAKEN, ByMode, choose, chosen_by, guards_of, only_in
from prunecore.tracing.contexts import kinds
from prunecore.tracing.modules.attributes import TrainingFlag
from prunecore.tracing.nodes import is_in_place, living
from prunecore.tracing.source_lines import LINE


def alike(first: fx.Graph, second: fx.Graph) -> bool:
    """True if two traces of one forward do the same."""
    return _are_alike(list(first.nodes), list(second.nodes), {})


def _are_alike(
    first: Sequence[fx.Node], second: Sequence[fx.Node], numbers: dict[fx.Node, Hashable]
) -> bool:
    """True if nodes do the same one after the other; what they use before them has these names."""
    if len(first) != len(second):
        return False
    for number, pair in enumerate(zip(first, second, strict=True)):
        if _described(pair[0], numbers) != _described(pair[1], numbers):
            return False
        numbers |= dict.fromkeys(pair, number)
    return True


def _described(
    node: fx.Node,
    numbers: Mapping[fx.Node, Hashable] | None,
    absent: Collection[str] = (),
    with_fractions: bool = True,
    with_line: bool = False,
) -> Hashable:
    """What a node does; whatever nodes it uses, where these have no numbers.

    Args:
        node: the node.
        numbers: of the nodes before it.
        absent: names of the inputs that are `None` in another graph that it is to be found in.
        with_fractions: whether it counts which fractions it is given.
        with_line: whether it counts which line of the forward it stands for.
    """

    def described(leaf: Any) -> str:
        if isinstance(leaf, fx.Node):
            if numbers:
                return f"node {numbers.get(leaf)}"
            is_none = leaf.op == "placeholder" and str(leaf.target) in absent
            return _NONE.get(node.op, "None") if is_none else "node"
        if leaf is None and not numbers:
            return _NONE.get(node.op, "None")
        if not with_fractions and isinstance(leaf, float) and not isinstance(leaf, ByMode):
            return "a fraction"
        return "self.training" if isinstance(leaf, TrainingFlag) else repr(leaf)

    given = repr(fx.node.map_aggregate((node.args, node.kwargs), described))
    line = node.meta.get(LINE) if with_line else None
    return node.op, node.target, given, kinds(node), only_in(node), line


_NONE = {"call_module": "node"}  # a module may be called with a tensor or `None`


def in_both(
    ours: fx.Graph, theirs: fx.Graph, by_sizes: bool = False
) -> list[tuple[fx.Node, fx.Node]]:
    """The nodes that are one where two graphs are merged, in order, those of the first one first.

    Args:
        ours: a forward as it runs under some condition.
        theirs: the same as it runs otherwise.
        by_sizes: whether it is a branch on sizes at which they part, and nothing before it.
    """
    inputs = [inputs_of(graph) for graph in (ours, theirs)]
    pairs = {node: inputs[0][name] for name, node in inputs[1].items() if name in inputs[0]}
    absent = inputs[0].keys() ^ inputs[1].keys()
    after = [after_inputs(graph) for graph in (theirs, ours)]
    guards = parting(theirs, ours) if by_sizes else None
    is_of_modes = not absent and not by_sizes
    if guards:
        pairs |= in_prefix(*guards) or {}
        after = [
            nodes[nodes.index(guard) + 1 :] for nodes, guard in zip(after, guards, strict=True)
        ]
    returns = [[node for node in nodes if node.op == "output"] for nodes in after]
    found: dict[fx.Node, fx.Node] = {}
    if len(returns[0]) == len(returns[1]) > 1:
        found = _matched(after[0], after[1], absent, pairs, is_of_modes)
    if list(map(found.get, returns[0])) != returns[1]:
        nodes = _mergeable(after[0]), _mergeable(after[1])
        found = _matched(*nodes, absent, pairs, is_of_modes)
    return [(found[node], node) for node in theirs.nodes if node in found]


def parting(theirs: fx.Graph, ours: fx.Graph) -> tuple[fx.Node, fx.Node] | None:
    """The assertions of two graphs about the first branch on sizes at which they part, if any."""
    guards = [{n.meta[TAKEN].number: n for n in guards_of(graph)} for graph in (theirs, ours)]
    for number in guards[0].keys() & guards[1].keys():
        one, other = (of_graph[number] for of_graph in guards)
        if one.meta[TAKEN] != other.meta[TAKEN]:
            return one, other
    return None


def in_prefix(theirs: fx.Node, ours: fx.Node) -> dict[fx.Node, fx.Node] | None:
    """The nodes that are one before a branch on sizes, and the assertions about that.

    Args:
        theirs: the assertion of one graph.
        ours: that of the other.

    Returns:
        The node of the other by each; `None` where a call of one is not in the other.
    """
    numbers = _numbered(theirs, ours)
    before = [_before(guard) for guard in (theirs, ours)]
    told = [[numbers[node] for node in nodes] for nodes in before]
    match = SequenceMatcher(None, told[0], told[1], autojunk=False)
    pairs = {
        before[0][one + place]: before[1][other + place]
        for one, other, size in match.get_matching_blocks()
        for place in range(size)
    }
    paired = {*pairs, *pairs.values()}
    for node in itertools.chain(*before):
        if node not in paired and (node.op == "call_module" or is_in_place(node)):
            return None
    return {**pairs, theirs: ours}


def _numbered(*guards: fx.Node) -> dict[fx.Node, Hashable]:
    """The nodes before assertions in their graphs, with one number for what is one.

    Each computes the same of the same, after as many changes in place; the calls of a module are
    told from each other.
    """
    numbers: dict[fx.Node, Hashable] = {}
    known: dict[Hashable, int] = {}
    for guard in guards:
        changes, seen = 0, Counter[Hashable]()
        for node in _before(guard):
            what = _described(node, numbers), changes
            seen[what] += 1
            often = seen[what] if node.op == "call_module" else 1
            numbers[node] = known.setdefault((what, often), len(known))
            changes += is_in_place(node)
    return numbers


def go_on_alike(theirs: fx.Node, ours: fx.Node) -> bool:
    """True if two graphs do the same after these assertions about branches on sizes."""
    after = []
    for guard in (theirs, ours):
        before = {*_before(guard), guard}
        after.append([node for node in living(guard.graph) if node not in before])
    return _are_alike(after[0], after[1], _numbered(theirs, ours))


def _matched(
    theirs: Sequence[fx.Node],
    ours: Sequence[fx.Node],
    absent: Collection[str],
    inputs: Mapping[fx.Node, fx.Node],
    is_of_modes: bool,
) -> dict[fx.Node, fx.Node]:
    """Which nodes of one graph are which of another one.

    Args:
        theirs: the nodes of the one, in order.
        ours: those of the other.
        absent: names of the inputs that are `None` in one of them.
        inputs: those that both have, as they are paired.
        is_of_modes: whether it is `self.training` that the two differ in, which decides on
            fractions.
    """
    looks: list[dict[str, Any]] = [{"absent": absent, "with_line": True}, {"absent": absent}]
    if absent:  # what stands for such an input in the other graph is something else than `None`
        looks.insert(1, {"with_line": True})
    if is_of_modes:
        looks.append({"with_fractions": False})
    pairs = {**inputs, **_alike_in_order(theirs, ours, looks)}
    while wrong := [node for node, other in pairs.items() if not _may_pair(node, other, pairs)]:
        for node in wrong:
            del pairs[node]
    return pairs


def _alike_in_order(
    theirs: Sequence[fx.Node],
    ours: Sequence[fx.Node],
    looks: Sequence[Mapping[str, Any]],
) -> dict[fx.Node, fx.Node]:
    """The nodes that are described alike, in order.

    Args:
        theirs: the nodes of the one graph, in order.
        ours: those of the other.
        looks: what counts in a description; the first one finds pairs, and the others find more
            between these.
    """
    if not looks or not theirs or not ours:
        return {}
    first, second = (
        [_described(node, None, **looks[0]) for node in side] for side in (theirs, ours)
    )
    pairs: dict[fx.Node, fx.Node] = {}
    done = (0, 0)
    match = SequenceMatcher(None, first, second, autojunk=False)
    for one, other, size in match.get_matching_blocks():
        between = theirs[done[0] : one], ours[done[1] : other]
        pairs |= _alike_in_order(*between, looks[1:])
        done = one + size, other + size
        pairs |= zip(theirs[one : done[0]], ours[other : done[1]], strict=True)
    return pairs


def inputs_of(graph: fx.Graph) -> dict[str, fx.Node]:
    """The inputs of a trace, by name."""
    return {str(node.target): node for node in graph.nodes if node.op == "placeholder"}


def after_inputs(graph: fx.Graph) -> list[fx.Node]:
    """The nodes of a trace after its inputs."""
    return [node for node in graph.nodes if node.op != "placeholder"]


def _before(node: fx.Node) -> list[fx.Node]:
    nodes = list(node.graph.nodes)
    return nodes[: nodes.index(node)]


def _mergeable(nodes: Sequence[fx.Node]) -> Sequence[fx.Node]:
    """The nodes that may be one with those of another graph: none that come after a `return`."""
    returns = [node for node in nodes if node.op == "output"]
    if len(returns) > 1:
        sides = only_in(returns[0])
        early = [only_in(node)[: len(sides)] == sides for node in nodes]
        return nodes[: early.index(True)]
    return nodes[:-1]


def leaves_of(node: fx.Node) -> list[Any]:
    """All that a node is called with, in order."""
    leaves: list[Any] = []
    fx.node.map_aggregate((node.args, node.kwargs), leaves.append)
    return leaves


def _pairs_of(theirs: fx.Node, ours: fx.Node) -> Sequence[tuple[Any, Any]]:
    """The arguments of two nodes of one description that are nodes in one of them."""
    pairs = zip(leaves_of(theirs), leaves_of(ours), strict=True)
    return [pair for pair in pairs if any(isinstance(leaf, fx.Node) for leaf in pair)]


def _may_pair(theirs: fx.Node, ours: fx.Node, pairs: Mapping[fx.Node, fx.Node]) -> bool:
    """True if two calls that are alike are one call.

    A layer is the same one whatever it is given. A function of different things is one call if all
    that it is used for is the same, too: else two functions of one name only happen to meet.
    """
    if theirs.op not in ("call_function", "call_method", "output"):
        return True
    given = _pairs_of(theirs, ours)
    different = [pair for pair in given if pairs.get(pair[0]) is not pair[1]]
    if theirs.op == "output":
        return not different
    if theirs.target is choose and any(_are_of_branch(theirs, pair) for pair in different):
        return False
    if all(None in pair for pair in different):
        return True
    used = [pairs.get(user) for user in theirs.users]
    return None not in used and set(used) == set(ours.users)


def _are_of_branch(choice: fx.Node, chosen: Collection[Any]) -> bool:
    """True if some of what is chosen is computed only where the condition of the choice decides."""
    return any(
        chosen_by(choice) == condition
        for node in chosen
        if isinstance(node, fx.Node)
        for condition, _ in only_in(node)
    )
