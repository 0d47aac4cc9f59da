"""A function of the kept places alone, put back among zeros."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from prunecore.plugin import over_kept

KEPT = torch.tensor([0, 2, 3])


@pytest.mark.parametrize("axis", [1, -2])
def test_what_is_not_kept_is_not_seen(axis: int) -> None:
    x = torch.arange(1.0, 31).reshape(2, 5, 3)
    of_all = over_kept(torch.softmax, axis, KEPT, x, dim=1)
    assert torch.equal(of_all[:, KEPT], torch.softmax(x[:, KEPT], 1))
    assert torch.equal(of_all[:, [1, 4]], torch.zeros(2, 2, 3))


def test_all_that_a_function_returns_is_put_back_whatever_its_other_sizes() -> None:
    def narrowed(x: Tensor, places: int) -> Any:
        return torch.max(x[..., :places], 0), "as it is"

    x = torch.randn(2, 5, 3)
    (values, indices), text = over_kept(narrowed, -2, KEPT, x, 2)
    of_kept = torch.max(x[:, KEPT, :2], 0)
    assert values.shape == indices.shape == (5, 2)
    assert torch.equal(values[KEPT], of_kept.values)
    assert torch.equal(indices[KEPT], of_kept.indices)
    assert indices.dtype == torch.int64
    assert text == "as it is"
