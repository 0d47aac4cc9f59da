"""Networks of many equal parts: their files are short, and long forwards are no deeper for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import prunecore

WIDTH = 8


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.conv2 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(torch.relu(self.conv1(x)))


class Listed(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 3)
        self.convs = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 1) for _ in range(depth))
        self.norms = nn.ModuleList(nn.BatchNorm2d(WIDTH) for _ in range(depth))
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = x + norm(conv(x))
        return self.head(x.mean((2, 3)))


class Chain(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth
        self.stem = nn.Conv2d(3, WIDTH, 3)
        self.head = nn.Conv2d(WIDTH, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(self.depth):
            x = torch.relu(x) * 0.5
        return self.head(x)


def stages(depth: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, WIDTH, 1), *(Block() for _ in range(depth)))


def pairs(depth: int) -> nn.Module:
    layers = (m for _ in range(depth) for m in (nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.GELU()))
    return nn.Sequential(nn.Conv2d(3, WIDTH, 1), *layers, nn.Conv2d(WIDTH, 2, 1))


@pytest.mark.parametrize("make", [stages, pairs, Listed])
def test_the_file_of_equal_stages_is_short_whatever_their_number(
    make: Callable[[int], nn.Module],
) -> None:
    lines = []
    for depth in (12, 60):
        small = prunecore.prune(
            make(depth),
            level=50,
            input_shape=(3, 6, 6),
            limits=prunecore.Limits(scope="group", round_to=4, min_channels=4),
        )
        lines.append(small.source.count("\n"))
        command = [sys.executable, "-m", "ruff", "format", "--isolated", "-"]
        done = subprocess.run(command, input=small.source, capture_output=True, text=True)
        assert done.stdout == small.source
    assert max(lines) < 50


def test_a_long_row_of_functions_is_followed_and_written() -> None:
    small = prunecore.prune(Chain(700), level=30, input_shape=(3, 6, 6))
    assert small.source.count("0.5") == 700
