"""Numbers that a forward makes of sizes, as those that use them have them."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from torch import fx

from prunecore.channels.sizes import Count, Ratio
from prunecore.tracing.conditions import TAKEN
from prunecore.tracing.contexts import UNDER, under

_OF_NUMBERS = (int, float, max, min, round)


def state_number(node: fx.Node, args: Sequence[Any], values: Mapping[fx.Node, Any]) -> None:
    """Let what uses a number have it as it is, where it counts channels, which may be fewer.

    What `int` makes of a whole number is that number.

    Args:
        node: a call; where it makes such a number, it goes.
        args: what it is called with.
        values: what the nodes so far have computed.
    """
    if node.target not in _OF_NUMBERS:
        return
    value: Any = values[node]
    if isinstance(value, Count | Ratio):
        stated: Any = float(value) if isinstance(value, Ratio) else int(value)
    elif node.target in (int, float) and value is args[0]:
        stated = node.args[0]
    else:
        return
    for user in list(node.users):
        user.args = fx.node.map_arg(user.args, lambda arg: stated if arg is node else arg)
        user.kwargs = fx.node.map_arg(user.kwargs, lambda arg: stated if arg is node else arg)
    node.graph.erase_node(node)


def of_other_sizes(guard: fx.Node, values: dict[fx.Node, Any]) -> None:
    """Let an assertion about two shapes say what it does of the sizes behind those along channels.

    Args:
        guard: an assertion that depends on how many channels there are; it goes where it says
            nothing else.
        values: what the nodes so far have computed.
    """
    guard.meta.pop(TAKEN, None)  # widths have chosen the way, which is the same for all inputs
    condition: Any = guard.args[0]
    sides = [values.get(side) for side in condition.args if isinstance(side, fx.Node)]
    rests = _behind_channels(sides) if condition.target in (operator.eq, operator.ne) else None
    if rests and condition.target(*rests):
        graph, start = guard.graph, -len(rests[0])
        with graph.inserting_before(guard):
            parts = [
                graph.call_function(operator.getitem, (side, slice(start, None)))
                for side in condition.args
            ]
            compared = graph.call_function(condition.target, tuple(parts))
        guard.args = (compared, *guard.args[1:])
        values |= {**dict(zip(parts, rests, strict=True)), compared: True, guard: None}
        for node in (*parts, compared):
            node.meta[UNDER] = under(guard)
    else:
        guard.graph.erase_node(guard)


def is_settled(condition: Any) -> bool:
    """True for a comparison of numbers alone, since those that count channels are stated."""
    return isinstance(condition, fx.Node) and not condition.all_input_nodes


def _behind_channels(shapes: Sequence[Any]) -> list[tuple[int, ...]] | None:
    """The last sizes of two shapes, of axes without channels, if they may tell these apart."""
    if len(shapes) != 2 or not all(isinstance(shape, tuple) for shape in shapes):
        return None
    first, second = shapes
    pairs = list(zip(first, second, strict=False))
    along = [place for place, pair in enumerate(pairs) if any(isinstance(x, Count) for x in pair)]
    if len(first) != len(second) or not along or any(pairs[k][0] != pairs[k][1] for k in along):
        return None
    rests = [tuple(shape[along[-1] + 1 :]) for shape in shapes]
    return rests if rests[0] else None
