from __future__ import annotations

import numpy as np
import pytest

from prunecore.channels.ids import FIXED, counted


@pytest.mark.parametrize("ids", [[], [4], [FIXED, 1, 5], [5, 1], [1, 1], [2, FIXED, 2, FIXED, 2]])
def test_ids_are_counted_as_numpy_counts_them(ids: list[int]) -> None:
    array = np.array(ids, dtype=np.int64)
    for ours, numpys in zip(counted(array), np.unique(array, return_counts=True), strict=True):
        assert ours.tolist() == numpys.tolist()
        assert ours.dtype == numpys.dtype
