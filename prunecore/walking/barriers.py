"""Barriers: what is not understood keeps all that reaches it, and runs as it stands."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from prunecore.channels.channels import Channels
from prunecore.channels.ids import without_channels
from prunecore.channels.signal import Signal
from prunecore.channels.sizes import counted
from prunecore.functions.rule import Operation


def past_function(channels: Channels, operation: Operation) -> Any:
    """Follow a call of a function of which nothing is known: all that it is given stays.

    Args:
        channels: the walk.
        operation: the call, its tensors plain.

    Returns:
        What it returns, a `Signal` for each tensor, in which no channels lie.

    Raises:
        InputShapeError: it cannot be called with tensors of these shapes.
    """
    name = f".{operation.args[1]}" if operation.function is getattr else operation.name
    given = operation.args, dict(operation.kwargs)
    keep_whole(channels, given, f"no rule says what {name} does to it")
    return pytree.tree_map_only(Tensor, _whole, operation.run(channels))


def keep_whole(channels: Channels, given: Any, reason: str) -> None:
    """Keep all channels of tensors, and all that numbers count.

    Args:
        channels: the walk.
        given: tensors and numbers, in collections.
        reason: completes "left whole because ...".
    """
    leaves = pytree.tree_leaves(given)
    for ids in counted(leaves):
        channels.pin(ids, reason)
    for signal in (leaf for leaf in leaves if isinstance(leaf, Signal)):
        channels.pin(signal.ids, reason)
        if signal.parameter is not None:
            for axis, size in enumerate(signal.shape):
                own = channels.fresh(size)
                channels.bind(signal.parameter, axis, own)
                channels.pin(own, reason)


def _whole(tensor: Tensor) -> Signal:
    return Signal(tensor.to("meta"), without_channels(tensor.ndim))
