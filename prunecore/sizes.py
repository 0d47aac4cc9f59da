"""Numbers of channels that a forward reads off a tensor, and what it computes from them.

A forward that only reshapes by them works with fewer channels as well. One that computes with them,
`x / x.size(1)`, would compute something else.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from prunecore.signal import Ids, Signal, without_channels

if TYPE_CHECKING:
    from prunecore.algebra import Algebra


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


def of_sizes(
    channels: Algebra, function: Callable[..., Any], leaves: Sequence[Any], result: Any
) -> Any:
    """What a forward computes without a tensor of the network, such as from sizes.

    Args:
        channels: the walk.
        function: what has been called.
        leaves: its arguments.
        result: what it returned.
    """
    only_moves = function is operator.getitem or isinstance(result, tuple)
    ids = [] if only_moves else counted(leaves)
    if ids and type(result) in (bool, int, float):
        return depending(result, ids)
    for each in ids:
        channels.pin(each, f"{function.__name__} depends on how many there are")
    if isinstance(result, Tensor):
        return Signal(result.to("meta"), without_channels(result.ndim))
    return result
