"""Networks of layers drawn at random: what the single layers' tests do not think of."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

SIZE = 8  # of the maps


def draw_layer(draw, width):
    """A layer that takes maps of this width and keeps their size."""
    groups = draw.choice([number for number in range(1, width + 1) if width % number == 0])
    makers = [
        lambda: nn.Conv2d(width, draw.choice([4, 6, 12]), 3, padding=1, bias=draw.random() < 0.5),
        lambda: nn.Conv2d(width, groups * draw.choice([1, 2, 3]), 3, padding=1, groups=groups),
        lambda: nn.ConvTranspose2d(width, groups * draw.choice([1, 2]), 3, 1, 1, groups=groups),
        lambda: nn.BatchNorm2d(width, affine=draw.random() < 0.7),
        lambda: nn.GroupNorm(groups, width),
        lambda: nn.InstanceNorm2d(width, affine=draw.random() < 0.5),
        lambda: nn.LayerNorm((width, SIZE, SIZE)),
        lambda: draw.choice([nn.ReLU(), nn.Sigmoid(), nn.PReLU(width), nn.Softmax(2)]),
        lambda: nn.Sequential(nn.Flatten(), nn.Unflatten(1, (width, SIZE, SIZE))),
        lambda: nn.AvgPool2d(3, 1, 1),
    ]
    if width % 2 == 0:
        makers.append(lambda: nn.GLU(1))
    if width % 4 == 0:
        makers.append(lambda: nn.Sequential(nn.PixelShuffle(2), nn.MaxPool2d(2)))
    if width <= 8:
        makers.append(lambda: nn.Sequential(nn.PixelUnshuffle(2), nn.Upsample(scale_factor=2)))
    return draw.choice(makers)()


def draw_network(seed):
    torch.manual_seed(seed)
    draw = random.Random(seed)
    layers, maps = [nn.Conv2d(3, 8, 3, padding=1)], torch.rand(2, 8, SIZE, SIZE)
    for _ in range(draw.randint(3, 8)):
        layers.append(draw_layer(draw, maps.shape[1]))
        maps = layers[-1](maps)
    return nn.Sequential(*layers, nn.Conv2d(maps.shape[1], 4, 1), nn.Flatten(), nn.Linear(256, 3))


@pytest.mark.parametrize("seed", range(30))
def test_a_random_network_equals_its_masked_original(cut, seed):
    cut(draw_network(seed), (2, 3, SIZE, SIZE), seed)
