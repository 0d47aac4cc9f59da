"""Sizes along channels that a forward reads off a tensor, and the numbers that it makes of them.

A forward that reshapes by them works with fewer channels as well. Where it computes with them, as
in `x * x.size(1) ** -0.5`, the number is to stay what it was; unless it is what a mean divides by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch.utils import _pytree as pytree

from prunecore.channels.ids import Ids, without_channels
from prunecore.channels.signal import Signal, Sized


class Count(int):
    """A whole number that depends on how many of these channels there are."""

    ids: tuple[Ids, ...]
    of: Callable[[int], Any]  # what it is for so many channels, where these are of one tensor
    follows_input = False  # whether it depends on a size of the input as well
    is_merged = False  # whether that is so of one size, such as that of a flattened axis


class Ratio(float):
    """A number that depends on how many of these channels there are."""

    ids: tuple[Ids, ...]
    of: Callable[[int], Any]
    follows_input = False
    is_merged = False


def sizes(signal: Signal) -> tuple[int, ...]:
    """The shape of a tensor; the size of an axis with channels knows them."""
    return tuple(
        _counting(size, [ids], _has_more(signal, ids, axis)) if ids.size > 1 else size
        for axis, (size, ids) in enumerate(zip(signal.shape, _along(signal), strict=True))
    )


def places(signal: Signal) -> int:
    """How many places a tensor has; where channels lie along an axis, the number knows them."""
    ids = [each for each in _along(signal) if each.size > 1]
    number = signal.meta.numel()
    return (
        _counting(number, ids, len(ids) < signal.ndim and not signal.is_of_weights)
        if ids
        else number
    )


def _counting(number: int, ids: Sequence[Ids], is_merged: bool) -> Count:
    """A number of places of a tensor, among which there may be more than its channels."""
    result: Count = depending(number, ids)
    result.follows_input = result.is_merged = is_merged
    return result


def _has_more(signal: Signal, ids: Ids, axis: int) -> bool:
    """True if the size of an axis may follow the input: the batch lies there, too, or fills it."""
    if signal.is_of_weights:
        return signal.has_met(axis) is not None
    lines = np.moveaxis(ids, axis if ids.ndim > 1 else 0, 0)
    return len(np.unique(lines.reshape(len(lines), -1), axis=0)) < len(lines)


def _along(signal: Signal) -> Sequence[Ids]:
    """The channels that the size of each axis counts."""
    sized = signal.origin_as(Sized)
    if sized is not None:
        return sized.along
    met = [signal.has_met(axis) for axis in range(signal.ndim)]
    return [
        signal.ids if signal.carries_channels(axis) else without_channels(1) if own is None else own
        for axis, own in enumerate(met)
    ]


def counted(values: Sequence[Any]) -> list[Ids]:
    """The channels that numbers among these values depend on."""
    return [ids for value in values if isinstance(value, Count | Ratio) for ids in value.ids]


def depending(
    number: int | float, ids: Sequence[Ids], of: Callable[[int], Any] = lambda count: count
) -> Any:
    """A number that depends on how many channels there are.

    Args:
        number: its value for all of them.
        ids: the channels.
        of: its value for so many of them; asked only where there is one array of `ids`.
    """
    result = Count(number) if isinstance(number, int) else Ratio(number)
    result.ids, result.of = tuple(ids), of
    return result


def recounted(values: Any, count: int) -> Any:
    """A structure of values, the numbers among them as they are for so many channels."""
    return pytree.tree_map_only((Count, Ratio), lambda number: number.of(count), values)
