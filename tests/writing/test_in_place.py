"""What changes a tensor in place changes it for all that reads it afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Positions(nn.Module):
    """Adds to a tensor what it computes of parameters, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 6), nn.Linear(6, 2)
        self.columns, self.rows = nn.Parameter(torch.rand(4, 6)), nn.Parameter(torch.rand(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.unsqueeze(1).expand(-1, 4, -1))
        places = self.columns.repeat_interleave(1, 0)
        places.add_(self.rows.sin())
        return self.last(x + places).sum(1)


def test_what_is_computed_of_parameters_is_added_to_in_place(cut: Callable[..., Any]) -> None:
    result = cut(Positions(), 3)
    assert result.small.rows.shape == result.small.columns.shape != (4, 6)
    assert result.dependencies.left_whole == {}
