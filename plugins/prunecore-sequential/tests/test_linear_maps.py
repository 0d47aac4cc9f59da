"""A layer as a linear map gives, row by row, what the layer returns."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunecore_sequential import linear_maps

LAYERS = [
    (nn.Linear(5, 7), (2, 5)),
    (nn.Linear(5, 7, bias=False), (2, 3, 4, 5)),
    (nn.Conv1d(4, 6, 3, stride=2, padding=1), (2, 4, 9)),
    (nn.Conv2d(4, 6, 3, bias=False), (2, 4, 7, 8)),
    (nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (2, 3), groups=2), (2, 4, 9, 9)),
    (nn.Conv2d(6, 12, 3, padding=1, groups=6), (2, 6, 5, 5)),
    (nn.Conv2d(4, 6, 3, padding="same", padding_mode="circular"), (2, 4, 7, 8)),
    (nn.Conv2d(4, 6, 4, padding="same", padding_mode="reflect"), (2, 4, 7, 8)),
    (nn.Conv3d(2, 3, 2, dilation=2), (2, 2, 5, 4, 6)),
    (nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1), (2, 4, 5)),
    (nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2), (2, 4, 5, 6)),
    (nn.ConvTranspose2d(4, 2, (2, 3), (3, 1), dilation=(1, 2), bias=False), (2, 4, 3, 4)),
    (nn.ConvTranspose2d(4, 2, 1, 1, padding=1), (2, 4, 5, 6)),
    (nn.ConvTranspose3d(2, 3, 2, 2), (1, 2, 2, 3, 2)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda value: str(value))
@torch.no_grad()
def test_rows_times_matrix_are_the_answers(layer: Any, shape: tuple[int, ...]) -> None:
    layer = layer.double()
    x = torch.rand(shape, dtype=torch.float64)
    output = layer(x)
    told: Any = linear_maps.LAYERS[type(layer)](layer)
    size = told.places(output)
    count = math.prod(size)
    chosen = torch.stack([torch.randperm(count)[: max(1, count // 2)] for _ in x])
    rows, matrix = told.rows(x, size, chosen), told.matrix()
    computed = (rows @ matrix.mT).transpose(0, 1).flatten(1)
    computed = computed if told.bias is None else computed + told.bias
    torch.testing.assert_close(computed, told.answers(output, chosen))
    assert told.as_weight(matrix).equal(layer.weight)


def test_a_batch_norm_without_statistics_has_none_to_estimate() -> None:
    told = linear_maps.LAYERS[nn.BatchNorm2d]
    assert told(nn.BatchNorm2d(3, track_running_stats=False)) is None
    statistics: Any = told(nn.BatchNorm2d(3))
    assert statistics.mean.shape == (3,)
    assert isinstance(statistics.variance, Tensor)
