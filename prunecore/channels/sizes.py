"""Sizes along channels that a forward reads off a tensor, and the numbers that it makes of them.

A forward that reshapes by them works with fewer channels as well. Where it computes with them, as
in `x * x.size(1) ** -0.5`, the number is to stay what it was; unless it is what a mean divides by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.utils import _pytree as pytree

from prunecore.channels.ids import Ids, without_channels
from prunecore.channels.signal import Signal, Sized


class Count(int):
    """A whole number that depends on how many of these channels there are."""

    ids: tuple[Ids, ...]
    of: Callable[[int], Any]  # what it is for so many channels, where these are of one tensor


class Ratio(float):
    """A number that depends on how many of these channels there are."""

    ids: tuple[Ids, ...]
    of: Callable[[int], Any]


def sizes(signal: Signal) -> tuple[int, ...]:
    """The shape of a tensor; the size of an axis with channels knows them."""
    return tuple(
        depending(size, [ids]) if ids.size > 1 else size
        for size, ids in zip(signal.shape, _along(signal), strict=True)
    )


def places(signal: Signal) -> int:
    """How many places a tensor has; where channels lie along an axis, the number knows them."""
    ids = [each for each in _along(signal) if each.size > 1]
    return depending(signal.meta.numel(), ids) if ids else signal.meta.numel()


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
