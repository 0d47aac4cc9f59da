"""Results that a forward takes apart at once: `b, c, h, w = x.size()`, `x1, x2 = x.chunk(2, 1)`."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx

from prunecore.effects import is_dead
from prunecore.expressions import own_name
from prunecore.signal import Signal

_MOST = 8  # results; of more, a list is kept
_OTHER_AXES = {2: "b", 3: "bn", 4: "bhw", 5: "bthw"}  # by rank: all but that of the channels
_WORDS = ("kv", "qk", "qkv")  # what layers are called whose output is several things


def parts_of(node: fx.Node, value: Any) -> list[list[fx.Node]]:
    """What takes a result apart, by place.

    Args:
        node: the call.
        value: what it returns.

    Returns:
        The items taken, by their number; nothing unless two and at least half of all are taken,
        and all that uses the result takes an item of it.
    """
    if not isinstance(value, list | tuple) or not 2 <= len(value) <= _MOST:
        return []
    parts: list[list[fx.Node]] = [[] for _ in value]
    for user in node.users:
        if is_dead(user):
            continue
        place = user.args[1] if user.target is operator.getitem else None
        if not isinstance(place, int) or user.args[0] is not node:
            return []
        parts[place].append(user)
    taken = sum(map(bool, parts))
    return parts if taken >= 2 and 2 * taken >= len(parts) else []


def part_names(node: fx.Node, values: Mapping[fx.Node, Any], source: str | None) -> list[str]:
    """What a person calls the results of a call, by place.

    Args:
        node: the call.
        values: what each node computes.
        source: the variable that it takes apart, if there is one.
    """
    value = values[node]
    if hasattr(value, "_fields"):
        return list(value._fields)
    if axes := _axes(node, values):
        return axes
    layer = node
    while layer.op != "call_module" and layer.all_input_nodes:
        layer = layer.all_input_nodes[0]
    word = own_name(layer).rpartition("_")[2]
    if word in _WORDS and len(word) == len(value):
        return list(word)
    stem = own_name(node) if source is None or node.op == "call_module" else source
    stem = stem.rstrip("0123456789")
    return [f"{stem}{number}" for number in range(1, len(value) + 1)]


def _axes(node: fx.Node, values: Mapping[fx.Node, Any]) -> list[str]:
    """The names of the axes whose sizes a node is; nothing if it is something else."""
    source: Any = node.args[0] if node.args else None
    if node.target is operator.getitem and isinstance(node.args[1], slice):
        return _axes(source, values)[node.args[1]]
    is_shape = node.target is getattr and node.args[1] == "shape"
    if not is_shape and node.target not in ("size", Tensor.size):
        return []
    return _axis_names(values[source])


def _axis_names(tensor: Signal) -> list[str]:
    rank, axes = tensor.ndim, tensor.channel_axes
    channels = axes[0] if len(axes) == 1 else 2 if rank == 3 else 1
    if rank not in _OTHER_AXES or channels == 0:
        return [f"size{number}" for number in range(rank)]
    names = list(_OTHER_AXES[rank])
    return [*names[:channels], "c", *names[channels:]]
