"""What stays of every tensor, argument and signal; and the cut itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from prunecore.channels.dependencies import Dependencies, merge
from prunecore.channels.ids import FIXED, along
from prunecore.channels.keep import Keep, Width
from prunecore.channels.records import Records
from prunecore.channels.signal import Signal, shaped


class Holder(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(shape))
        self.register_buffer("mean", torch.rand(shape[0]))


def bound(model: nn.Module, count: int, **axes: dict[int, Any]) -> Dependencies:
    """Dependencies of a network with its tensors bound to these ids."""
    records = Records(count=count)
    records.forwards.visits[""] = []
    for name, by_axis in axes.items():
        for axis, ids in by_axis.items():
            records.bindings[id(getattr(model, name)), axis] = np.array(ids)
    return merge(model, records)


def keep_of(model: nn.Module, found: Dependencies, *gone: int) -> Keep:
    kept = np.ones(found.count, dtype=bool)
    kept[list(gone)] = False
    return Keep(model, found, kept)


def test_a_size_is_that_of_a_line_of_which_something_stays() -> None:
    model = Holder(4)
    keep = keep_of(model, bound(model, 4, weight={0: [0, 1, 2, 3]}), 0, 2)  # the first column
    grid = Signal(shaped((2, 2)), np.array([[0, 1], [2, 3]]))
    assert keep.shape(grid) == (2, 1)


PATTERNS: list[tuple[tuple[int, ...], dict[int, list[int]]]] = [
    ((6,), {0: [0, 1, 2, 3, 4, 5]}),
    ((4, 6), {0: [0, 1, 2, 3]}),
    ((4, 6), {1: [0, 1, 2, 3, 4, 5]}),
    ((4, 6), {0: [0, 1, 2, 3], 1: [4, 5, 0, 1, 2, 3]}),
    ((4, 6, 3, 3), {0: [0, 1, 2, 3], 1: [4, 5, 6, 7, 8, 9]}),
    ((4, 6, 3, 3), {1: [0, 1, 2, 3, 4, 5], 0: [6, 7, 8, 9]}),
    ((2, 4, 6), {1: [0, 1, 2, 3], 2: [0, 1, 2, 3, 4, 5]}),
    ((2, 4, 6), {0: [0, 1], 2: [2, 3, 4, 5, 6, 7]}),
    ((2, 3, 4), {0: [0, 1], 1: [2, 3, 4], 2: [5, 6, 7, 8]}),
    # flattened maps: runs of one channel
    ((4, 8), {0: [8, 9, 10, 11], 1: [0, 0, 1, 1, 2, 2, 3, 3]}),
    ((4, 8), {0: [4, 5, 6, 7], 1: [0, 0, 0, 0, 1, 1, 1, 1]}),
    ((3, 12), {0: [4, 5, 6], 1: [0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0]}),
    # almost runs
    ((3, 8), {0: [4, 5, 6], 1: [0, 0, 1, 1, 2, 2, 3, 2]}),
    ((3, 7), {0: [4, 5, 6], 1: [0, 0, 1, 1, 2, 2, 3]}),
    ((3, 8), {0: [4, 5, 6], 1: [0, 0, 1, 2, 2, 1, 3, 3]}),
    ((3, 6), {0: [4, 5, 6], 1: [0, 1, 2, 0, 1, 2]}),
    ((3, 6), {0: [4, 5, 6], 1: [0, 0, 0, 0, 0, 0]}),
    ((3, 6), {0: [4, 5, 6], 1: [0, 0, FIXED, FIXED, 1, 1]}),
    ((3, 6), {0: [0, 1, 2], 1: [FIXED] * 6}),
    ((4, 1), {0: [0, 1, 2, 3], 1: [4]}),
]


@pytest.mark.parametrize(("shape", "axes"), PATTERNS)
@pytest.mark.parametrize("seed", range(4))
def test_a_cut_is_the_kept_index_along_every_bound_axis(
    shape: tuple[int, ...], axes: dict[int, list[int]], seed: int
) -> None:
    model = Holder(*shape)
    found = bound(model, 12, weight=axes)
    kept = np.random.default_rng(seed).random(found.count) < 0.6
    kept[found.channel_of[0]] = True
    keep = Keep(model, found, kept)
    expected = model.weight.detach()
    for axis, ids in axes.items():
        stays = [place for place, i in enumerate(ids) if i == FIXED or kept[found.channel_of[i]]]
        expected = expected.index_select(axis, torch.tensor(stays, dtype=torch.long))
        indices = keep.indices(model.weight, axis)
        assert (list(range(len(ids))) if indices is None else indices.tolist()) == stays
        assert (indices is None) == (len(stays) == len(ids))
        assert keep.width(model.weight, axis) == len(stays)
    actual = keep.cut(model.weight)
    assert actual.shape == expected.shape
    assert torch.equal(actual, expected)
    assert not actual.requires_grad


@given(st.lists(st.integers(-1, 4), min_size=1, max_size=12), st.integers(0, 2**5 - 1))
def test_columns_of_any_pattern_are_cut(ids: list[int], choice: int) -> None:
    model = Holder(3, len(ids))
    found = bound(model, 9, weight={0: [5, 6, 7], 1: ids})
    kept = np.ones(found.count, dtype=bool)
    kept[found.channel_of[:5]] = [bool(choice >> bit & 1) for bit in range(5)]
    kept[found.channel_of[6]] = False
    stays = [place for place, i in enumerate(ids) if i < 0 or kept[found.channel_of[i]]]
    actual = Keep(model, found, kept).cut(model.weight)
    assert torch.equal(actual, model.weight.detach()[[0, 2]][:, stays])


def test_what_is_not_cut_is_not_copied() -> None:
    model = Holder(4, 6)
    keep = keep_of(model, bound(model, 4, weight={0: [0, 1, 2, 3]}))
    assert keep.cut(model.weight).data_ptr() == model.weight.data_ptr()
    assert keep.indices(model.weight, 0) is None
    assert keep.indices(model.weight, 1) is None
    assert keep.indices(None, 0) is None


def test_kept_indices_are_sorted_whatever_the_order_of_the_ids() -> None:
    model = Holder(4, 2)
    found = bound(model, 4, weight={0: [3, 1, 0, 2]})
    keep = keep_of(model, found, int(found.channel_of[1]))
    indices = keep.indices(model.weight, 0)
    assert indices is not None
    assert indices.tolist() == [0, 2, 3]


def test_widths_that_count_the_same_channels_know_it() -> None:
    model = Holder(4, 4)
    found = bound(model, 8, weight={0: [0, 1, 2, 3], 1: [4, 5, 6, 7]}, mean={0: [0, 1, 2, 3]})
    keep = keep_of(model, found, 1)
    rows, columns = keep.width(model.weight, 0), keep.width(model.weight, 1)
    mean = keep.width(model.mean, 0)
    assert isinstance(rows, Width)
    assert isinstance(columns, Width)
    assert isinstance(mean, Width)
    assert (rows, columns, mean) == (3, 4, 3)
    assert rows.channels == mean.channels != columns.channels
    signal = keep.size(Signal(shaped((2, 4)), along(1, 2, np.arange(4))), 1)
    assert isinstance(signal, Width)
    assert signal == 3
    assert signal.channels == rows.channels


def test_the_size_of_a_signal(find: Callable[..., Any]) -> None:
    model = Holder(4, 4)
    keep = keep_of(model, bound(model, 4, weight={0: [0, 1, 2, 3]}), 2)
    x = Signal(shaped((2, 8, 5)), along(1, 3, np.repeat(np.arange(4), 2)))
    assert [keep.size(x, axis) for axis in range(3)] == [2, 6, 5]
    assert keep.mask(x.ids).ravel().tolist() == [True, True, True, True, False, False, True, True]
    assert keep.mask(np.array([FIXED])).tolist() == [True]


def test_an_argument_that_counts_channels_is_the_kept_width(find: Callable[..., Any]) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    found = find(model, (2, 3))
    keep = keep_of(model, found, 0)
    assert keep.argument(model[0], "out_features") == 3
    assert keep.argument(model[1], "in_features") == 3
    assert keep.argument(model[0], "in_features") == 3
    assert keep.argument(model[1], "out_features") == 2
    assert isinstance(keep.argument(model[1], "out_features"), Width)
    assert not isinstance(keep.argument(model[0], "in_features"), Width)
