"""The search for the highest level that holds, by bisection."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def highest(levels: Sequence[float], holds: Callable[[float], bool]) -> float | None:
    """The highest level that holds, where those below one that holds do so, too.

    After Rajagopal and Bouganis, "Now that I can see, I can improve", 2020, arXiv 2006.08554: the
    middle of what is left is tried first, so that of n levels at most log2(n + 1) are, rounded up.

    Args:
        levels: in ascending order.
        holds: whether one does.

    Returns:
        It; `None` where none holds.
    """
    low, high = 0, len(levels)  # those below low hold, those from high on do not
    while low < high:
        middle = (low + high) // 2
        if holds(levels[middle]):
            low = middle + 1
        else:
            high = middle
    return levels[low - 1] if low else None
