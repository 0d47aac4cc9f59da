"""Sizes along channels that a forward reads off a tensor, and the numbers that it makes of them.

A forward that only reshapes by them works with fewer channels as well. One that computes with them,
`x / x.size(1)`, would compute something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prunecore.channels.ids import Ids
from prunecore.channels.signal import Signal


class Count(int):
    """A whole number that depends on how many of these channels there are."""

    ids: tuple[Ids, ...]


class Ratio(float):
    """A number that depends on how many of these channels there are."""

    ids: tuple[Ids, ...]


def sizes(signal: Signal) -> tuple[int, ...]:
    """The shape of a tensor; the size of an axis with channels knows them."""
    return tuple(
        depending(size, [signal.ids]) if signal.carries_channels(axis) else size
        for axis, size in enumerate(signal.shape)
    )


def counted(values: Sequence[Any]) -> list[Ids]:
    """The channels that numbers among these values depend on."""
    return [ids for value in values if isinstance(value, Count | Ratio) for ids in value.ids]


def depending(number: int | float, ids: Sequence[Ids]) -> Any:
    """A number that depends on how many channels there are."""
    result = Count(number) if isinstance(number, int) else Ratio(number)
    result.ids = tuple(ids)
    return result
