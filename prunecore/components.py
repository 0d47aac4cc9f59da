"""Coupled ids, merged into channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prunecore.records import Records
from prunecore.signal import FIXED, Ids

# Numbers of channels: 0, 1, ... in the order in which layers first make them; FIXED for places
# that always stay.
ChannelArray = NDArray[np.int64]


def channels_of(records: Records) -> tuple[ChannelArray, int]:
    """The channel of each id, and of `FIXED` in the last place; the number of channels."""
    root = _components(records.count + 1, records.couplings)
    fixed = root == root[-1]
    _, numbers = np.unique(root[~fixed], return_inverse=True)
    channel_of = np.full(records.count + 1, FIXED, dtype=np.int64)
    channel_of[~fixed] = numbers
    return channel_of, int(numbers.max(initial=-1)) + 1


def _components(count: int, pairs: Sequence[tuple[Ids, Ids]]) -> Ids:
    """Connected components: the least member of each node's, `FIXED` being the last node."""
    root = np.arange(count)
    if not pairs:
        return root
    first, second = (np.concatenate(side) % count for side in zip(*pairs, strict=True))
    while True:
        low, high = np.minimum(root[first], root[second]), np.maximum(root[first], root[second])
        apart = low != high
        if not apart.any():
            return root
        first, second = first[apart], second[apart]
        np.minimum.at(root, high[apart], low[apart])
        while (further := root[root]).tobytes() != root.tobytes():
            root = further


class Axes:
    """The distinct arrays of channels, numbered as they come."""

    def __init__(self, channel_of: ChannelArray) -> None:
        self.arrays: list[ChannelArray] = []
        self._channel_of = channel_of
        self._by_ids: dict[int, tuple[int, Ids]] = {}  # an array met again need not be compared
        self._by_content: dict[bytes, int] = {}

    def index(self, ids: Ids) -> int:
        """The number of the array that ids are, which is a new one where they are none as yet."""
        known = self._by_ids.get(id(ids))
        if known is None:
            array = self._channel_of[ids]
            index = self._by_content.setdefault(array.tobytes(), len(self.arrays))
            if index == len(self.arrays):
                self.arrays.append(array)
            known = self._by_ids[id(ids)] = (index, ids)
        return known[0]


def reasons_of(records: Records, channel_of: ChannelArray) -> dict[int, str]:
    """Why a channel may not go, by channel; the first reason counts."""
    reasons: dict[int, str] = {}
    for ids, reason in records.pins:
        for channel in np.unique(channel_of[ids]).tolist():
            if channel != FIXED:
                reasons.setdefault(channel, reason)
    return reasons
