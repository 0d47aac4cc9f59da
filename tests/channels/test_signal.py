"""Ids follow a reshape exactly, as place by place as the tensor itself does."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from prunecore.channels.ids import FIXED, along, one_channel_axis, reshape_ids, without_channels
from prunecore.channels.signal import Signal, shaped

Ids = NDArray[np.int64]


class Couplings:
    """Collects what a reshape couples, as sets of ids."""

    def __init__(self) -> None:
        self.sets: list[set[int]] = []

    def __call__(self, first: Ids, second: Ids) -> None:
        assert first.shape == second.shape
        for a, b in zip(first.ravel().tolist(), second.ravel().tolist(), strict=True):
            met = [s for s in self.sets if a in s or b in s]
            self.sets = [s for s in self.sets if s not in met]
            self.sets.append({a, b}.union(*met))

    def groups(self) -> list[list[int]]:
        return sorted(sorted(s) for s in self.sets if len(s) > 1)

    def least(self, number: int) -> int:
        return min(next((s for s in self.sets if number in s), {number}))


def reshape(
    ids: Ids, old: Sequence[int], new: Sequence[int]
) -> tuple[list[int], Sequence[int], list[list[int]]]:
    couplings = Couplings()
    result = one_channel_axis(reshape_ids(ids, old, new), couplings)
    return result.ravel().tolist(), result.shape, couplings.groups()


def ids_of(*numbers: int, axis: int = 1, rank: int = 2) -> Ids:
    return along(axis, rank, np.array(numbers, dtype=np.int64))


def test_flatten_repeats_each_channel_for_its_places() -> None:
    ids = ids_of(7, 8, 9, rank=4)
    result = reshape(ids, (2, 3, 2, 2), (2, 12))
    assert result == ([7, 7, 7, 7, 8, 8, 8, 8, 9, 9, 9, 9], (1, 12), [])


def test_flatten_of_a_channel_axis_that_lies_last_alternates() -> None:
    ids = ids_of(7, 8, 9, axis=2, rank=3)
    result = reshape(ids, (2, 2, 3), (2, 6))
    assert result == ([7, 8, 9, 7, 8, 9], (1, 6), [])


def test_unflattening_what_was_flattened_gives_the_channels_back() -> None:
    flat = ids_of(7, 7, 7, 7, 8, 8, 8, 8, 9, 9, 9, 9)
    assert reshape(flat, (2, 12), (2, 3, 2, 2)) == ([7, 8, 9], (1, 3, 1, 1), [])
    assert reshape(flat, (2, 12), (2, 3, 4)) == ([7, 8, 9], (1, 3, 1), [])


def test_axes_of_size_one_come_and_go_beside_the_channels() -> None:
    ids = ids_of(7, 8, rank=4)
    assert reshape(ids, (2, 2, 1, 1), (2, 2)) == ([7, 8], (1, 2), [])
    assert reshape(ids_of(7, 8), (2, 2), (2, 1, 2, 1)) == ([7, 8], (1, 1, 2, 1), [])


def test_a_split_couples_across_the_shorter_axis() -> None:
    ids = ids_of(0, 1, 2, 3, 4, 5)
    result = reshape(ids, (1, 6), (1, 2, 3))
    assert result == ([0, 1, 2], (1, 1, 3), [[0, 3], [1, 4], [2, 5]])
    result = reshape(ids, (1, 6), (1, 3, 2))
    assert result == ([0, 2, 4], (1, 3, 1), [[0, 1], [2, 3], [4, 5]])


def test_a_split_into_three_keeps_the_longest() -> None:
    ids = ids_of(*range(12))
    result = reshape(ids, (1, 12), (1, 2, 3, 2))
    assert result == (
        [0, 2, 4],
        (1, 1, 3, 1),
        [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]],
    )


def test_a_channel_shuffle_by_view_and_transpose_couples_the_positions_of_the_groups() -> None:
    couplings = Couplings()
    grid = reshape_ids(ids_of(*range(6), rank=4), (1, 6, 2, 2), (1, 2, 3, 2, 2))
    assert grid.shape == (1, 2, 3, 1, 1)
    split = one_channel_axis(grid, couplings)
    assert split.ravel().tolist() == [0, 1, 2]
    swapped = split.transpose(0, 2, 1, 3, 4)
    joined = one_channel_axis(reshape_ids(swapped, (1, 3, 2, 2, 2), (1, 6, 2, 2)), couplings)
    assert joined.ravel().tolist() == [0, 0, 1, 1, 2, 2]
    assert couplings.groups() == [[0, 3], [1, 4], [2, 5]]


def test_the_batch_merged_with_spatial_axes_leaves_the_channels_alone() -> None:
    ids = ids_of(4, 5, axis=2, rank=3)
    assert reshape(ids, (3, 7, 2), (21, 2)) == ([4, 5], (1, 2), [])


def test_channels_merged_into_the_batch_are_repeated_along_it() -> None:
    assert reshape(ids_of(4, 5, rank=3), (3, 2, 5), (6, 5)) == ([4, 5] * 3, (6, 1), [])


def test_what_carries_no_channels_stays_without() -> None:
    ids = without_channels(3)
    assert reshape(ids, (2, 3, 4), (6, 4)) == ([FIXED], (1, 1), [])
    assert reshape(ids, (2, 3, 4), (24,)) == ([FIXED], (1,), [])


def test_a_single_channel_stays_one() -> None:
    assert reshape(ids_of(5, rank=3), (2, 1, 4), (2, 4)) == ([5], (1, 1), [])


@st.composite
def _reshapes(draw: st.DrawFn) -> tuple[Ids, list[int], list[int]]:
    factors = draw(st.lists(st.sampled_from([1, 2, 3, 4, 5]), min_size=1, max_size=5))

    def grouped() -> list[int]:
        ends = draw(st.lists(st.booleans(), min_size=len(factors), max_size=len(factors)))
        sizes = [1]
        for factor, ends_here in zip(factors, ends, strict=True):
            sizes[-1] *= factor
            if ends_here:
                sizes.append(1)
        return sizes

    old, new = grouped(), grouped()
    axis = draw(st.integers(0, len(old) - 1))
    ids = draw(
        st.one_of(
            st.just(list(range(old[axis]))),
            st.lists(st.integers(0, 3), min_size=old[axis], max_size=old[axis]),
        )
    )
    return along(axis, len(old), np.array(ids, dtype=np.int64)), old, new


@given(_reshapes())
def test_every_place_has_the_channel_that_the_tensors_reshape_puts_there(
    case: tuple[Ids, list[int], list[int]],
) -> None:
    ids, old, new = case
    couplings = Couplings()
    result = one_channel_axis(reshape_ids(ids, old, new), couplings)
    assert result.ndim == len(new)
    assert sum(size > 1 for size in result.shape) <= 1
    expected = np.broadcast_to(ids, old).reshape(new)
    actual = np.broadcast_to(result, new)
    for right, ours in zip(expected.ravel().tolist(), actual.ravel().tolist(), strict=True):
        assert couplings.least(right) == couplings.least(ours)


@given(_reshapes())
def test_a_reshape_couples_no_more_than_a_rectangle_needs(
    case: tuple[Ids, list[int], list[int]],
) -> None:
    """Along the axis that stays, the result's places differ unless the ids were equal before."""
    ids, old, new = case
    couplings = Couplings()
    result = one_channel_axis(reshape_ids(ids, old, new), couplings)
    full = np.broadcast_to(ids, old).reshape(new)
    longest = max((size for size in result.shape), default=1)
    if longest == 1:
        return
    axis = result.shape.index(longest)
    lines = np.moveaxis(full, axis, 0).reshape(longest, -1)
    allowed = Couplings()
    for line in lines:
        allowed(np.full_like(line, line[0]), line)
    assert couplings.groups() == [
        group for group in allowed.groups() if any(couplings.least(i) != i for i in group)
    ]


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_along_lays_ids_on_one_axis(rank: int) -> None:
    for axis in range(rank):
        laid = along(axis, rank, np.array([3, 1, 2]))
        assert laid.ndim == rank
        assert laid.shape[axis] == 3
        assert laid.ravel().tolist() == [3, 1, 2]


def test_a_signal_knows_its_channel_axes() -> None:
    signal = Signal(shaped((2, 3, 4)), ids_of(1, 2, 3, rank=3))
    assert signal.shape == (2, 3, 4)
    assert math.prod(signal.shape) == signal.meta.numel()
    assert signal.ndim == 3
    assert signal.channel_axes == [1]
    assert [signal.carries_channels(axis) for axis in range(3)] == [False, True, False]
    assert signal.meta.is_meta
