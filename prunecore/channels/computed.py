"""Weights that a forward computes of parameters: which parameter their channels come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from prunecore.channels.ids import Ids, without_channels
from prunecore.channels.signal import Computed, Signal, Way, map_signals


def are_of_weights(signals: Sequence[Signal]) -> bool:
    """True if tensors are parameters, or computed of such alone, beside stored indices."""
    stored = [signal.parameter for signal in signals if signal.computed is None]
    are_indices = [each is not None and not each.is_floating_point() for each in stored]
    return None not in stored and not (len(stored) == len(signals) and all(are_indices))


def open_parts(result: Any, own: Computed) -> Any:
    """Open a function's result that is computed of parameters: its channels are yet to be found.

    Args:
        result: a `Signal` for each tensor.
        own: how it is computed.

    Returns:
        The same structure, each `Signal` without channels and among the parts of `own`.
    """

    def opened(signal: Signal) -> Signal:
        computed = replace(own, followed=[])
        part = Signal(signal.meta, without_channels(signal.ndim), computed)
        own.parts.append(part)
        return part

    return map_signals(opened, result)


def columns_of(weight: Tensor | Signal, axis: int) -> Ids | None:
    """The channels along an axis of a computed weight that need not be zero where one is gone."""
    if not isinstance(weight, Signal) or weight.computed is None or _is_reordered(weight):
        return None
    for known in weight.computed.followed:
        if known.signal.channel_axes == [axis]:
            return known.signal.ids.ravel()
    return None


def leaf_of(signal: Signal) -> Signal:
    """The first parameter that a tensor is computed of; the tensor itself, if there is none."""
    return next(leaves(signal), signal)


def as_followed(value: Any) -> list[Any]:
    """List a node's value once for each axis that its channels have been followed along.

    A value that is not computed of parameters is the list's only item.
    """
    if isinstance(value, Signal) and value.computed is not None and is_open(value):
        return [known.signal for known in value.computed.followed] or [value]
    return [value]


def _is_reordered(signal: Signal) -> bool:
    """True if all that is done to a parameter, and to stored indices, moves or takes places."""
    own = signal.computed
    if own is None:
        return signal.parameter is not None
    given = pytree.tree_leaves((own.args, dict(own.kwargs)))
    return own.reorders and all(_is_reordered(leaf) for leaf in given if isinstance(leaf, Signal))


def is_open(signal: Signal) -> bool:
    """True if a tensor is computed of parameters and its channels are yet to be found."""
    own = signal.computed
    # a module may have been handed another signal of the same tensor
    return own is not None and not any(known.signal.ids is signal.ids for known in own.followed)


def leaves(signal: Signal) -> Iterator[Signal]:
    """The parameters that a tensor is computed of whose channels come from what they meet."""
    if signal.computed is None:
        if not signal.channel_axes:
            yield signal
        return
    for leaf in pytree.tree_leaves((signal.computed.args, dict(signal.computed.kwargs))):
        if isinstance(leaf, Signal):
            yield from leaves(leaf)


def ways(leaf: Signal) -> Iterator[tuple[Way, Way]]:
    """Where channels may come from that a tensor has which is computed of a parameter, by axis."""
    parameter = leaf.parameter
    for axis, size in enumerate(leaf.shape):
        if parameter is not None and parameter.is_floating_point() and size > 1:
            yield Way(parameter, axis, alone=False), Way(parameter, axis, alone=True)


def _is_of(signal: Signal, parameter: Tensor) -> bool:
    return any(leaf.parameter is parameter for leaf in leaves(signal))
