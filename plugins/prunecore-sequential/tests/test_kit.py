"""What prunecore's kit for plugin authors says of this plugin."""

from __future__ import annotations

import pytest
from torch import nn

from prunecore.testing import check_block, check_plugin


def test_the_hooks_answer_and_errors_name_the_plugin():
    check_plugin("sequential")


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(6, 8, 3), (6, 9)),
        (nn.Conv2d(6, 9, 3, groups=3), (6, 9, 9)),
        (nn.Conv2d(8, 8, 3, groups=8), (8, 9, 9)),
        (nn.Conv2d(8, 12, 3, groups=2), (8, 9, 9)),
        (nn.Conv3d(6, 8, 3), (6, 4, 5, 6)),
        (nn.ConvTranspose1d(6, 8, 3), (6, 9)),
        (nn.ConvTranspose2d(8, 12, 3, groups=2), (8, 9, 9)),
        (nn.ConvTranspose3d(6, 8, 3), (6, 4, 5, 6)),
        (nn.Linear(6, 8), (6,)),
        (nn.Linear(6, 8, bias=False), (6,)),
        (nn.BatchNorm1d(8), (8,)),
        (nn.BatchNorm2d(8), (8, 4, 4)),
        (nn.BatchNorm3d(8), (8, 4, 4, 4)),
        (nn.InstanceNorm2d(8, affine=True), (8, 4, 4)),
        (nn.GroupNorm(4, 8), (8, 4, 4)),
        (nn.LayerNorm(8), (8,)),
        (nn.LayerNorm((8, 4, 4)), (8, 4, 4)),
        (nn.PReLU(8), (8, 4)),
        (nn.GLU(1), (8, 4)),
        (nn.PixelShuffle(2), (16, 4, 4)),
        (nn.PixelUnshuffle(2), (8, 4, 4)),
    ],
    ids=lambda value: str(value) if isinstance(value, nn.Module) else "",
)
def test_a_layer_does_what_its_own_forward_does(layer, shape):
    check_block(layer, shape)


@pytest.mark.parametrize(
    ("block", "shape"),
    [
        (nn.Sequential(nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.ReLU()), (6, 5, 5)),
        (nn.Sequential(nn.Conv2d(6, 8, 3), nn.Flatten(), nn.Linear(72, 4)), (6, 5, 5)),
        (nn.Sequential(nn.Unflatten(1, (8, 4)), nn.Conv1d(8, 6, 1)), (32,)),
        (nn.Softmax(2), (8, 4)),
    ],
    ids=str,
)
def test_what_is_followed_is_what_is_traced(block, shape):
    check_block(block, shape)
