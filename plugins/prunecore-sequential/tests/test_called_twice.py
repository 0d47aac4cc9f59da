"""Layers without weights that are called twice, and written once for both calls."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

import prunecore

WIDTH, SIZE = 8, 4


class Twice(nn.Module):
    def __init__(self, shared: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, WIDTH, 1)
        self.shared = shared
        self.second = nn.Conv2d(WIDTH, WIDTH, 1)
        self.last = nn.Conv2d(WIDTH, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(self.first(x))
        return self.last(self.shared(self.second(x)))


@pytest.mark.parametrize(
    "shared",
    [
        nn.Sequential(nn.Flatten(), nn.Unflatten(1, (WIDTH, SIZE, SIZE))),
        nn.LayerNorm((WIDTH, SIZE, SIZE), elementwise_affine=False),
        nn.GroupNorm(1, WIDTH, affine=False),
        nn.ChannelShuffle(4),
    ],
)
def test_both_calls_keep_the_same_places(shared):
    small = prunecore.prune(Twice(shared), level=40, input_shape=(3, SIZE, SIZE), mode="random")
    kept = small.report["kept"]
    assert kept["first.weight"][0] == kept["second.weight"][0]
    assert len(kept["first.weight"][0]) < WIDTH
