"""Tables whose rows are looked up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prunecore
from prunecore import UnsupportedError


class Positions(nn.Module):
    """Adds a row of a table for each place, and a bias by pairs of places to their products."""

    def __init__(self, width: int = 8, **options: Any) -> None:
        super().__init__()
        self.first = nn.Linear(3, width)
        self.position = nn.Embedding(5, width, **options)
        self.bias = nn.Embedding(9, 4)
        self.heads, self.last = nn.Linear(width, 4), nn.Linear(4, 2)
        places = torch.arange(5)
        self.register_buffer("places", places)
        self.register_buffer("pairs", places[:, None] - places + 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.heads(self.first(x) + self.position(self.places))
        return self.last((x[:, :, None] + self.bias(self.pairs)).mean((1, 2)))


@pytest.mark.parametrize("mode", ["random", "l1-norm"])
def test_columns_go_and_rows_stay(mode: str) -> None:
    small = prunecore.prune(Positions(), level=50, input_shape=(5, 3), mode=mode)
    assert small.report["verified"]["max_relative_difference"] == 1e-12
    assert small.model.position.weight.shape == (5, small.model.first.out_features)
    assert small.model.bias.weight.shape == (9, small.model.heads.out_features)
    assert small.model.first.out_features + small.model.heads.out_features < 12
    assert small.report["left_whole"] == []


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Positions(max_norm=1.0), "it scales its rows to a norm"),
        (
            nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 2)),
            "it looks up rows by what",
        ),
    ],
)
def test_what_is_not_understood_is_refused(model: nn.Module, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        prunecore.prune(model, level=30, input_shape=(5, 3))
