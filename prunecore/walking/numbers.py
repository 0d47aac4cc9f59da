"""Numbers that a forward makes of sizes, as those that use them have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import fx

from prunecore.channels.sizes import Count, Ratio

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
