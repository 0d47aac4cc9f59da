"""Sizes that are computed from other channels than those that they are for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

HEADS, WIDTH = 2, 8


class Heads(nn.Module):
    """A layer whose channels are seen as heads of a width that the input's channels give."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        n, width = x.shape
        x = self.qkv(x).reshape(n, HEADS, width // HEADS) * 2
        return self.proj(x.reshape(n, width))


class Outer(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.embed = nn.Linear(3, WIDTH)
        self.blocks = nn.Sequential(*(Heads() for _ in range(count)))
        self.head = nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.embed(x)))


def test_a_size_for_other_channels_is_left_to_be_found_out(cut_to: Callable[..., Any]) -> None:
    kept = {"embed": [0, 3, 4], "blocks.0.qkv": [0, 1, 4, 5]}
    result = cut_to(Outer(1), kept, 3)
    assert "reshape(getitem, 2, -1)" in result.text
    assert "reshape(getitem, -1)" in result.text


def test_a_size_that_is_right_stays_as_it_is(cut_to: Callable[..., Any]) -> None:
    result = cut_to(Outer(1), {"blocks.0.proj": [1, 2, 3]}, 3)
    assert "// 2" in result.text


def test_sizes_that_differ_leave_one_class(cut_to: Callable[..., Any]) -> None:
    kept = {"embed": [0, 3, 4], "blocks.0.qkv": [0, 1, 4, 5], "blocks.1.qkv": [1, 2, 3, 5, 6, 7]}
    result = cut_to(Outer(2), kept, 3)
    assert result.text.count("class Heads") == 1


class Wide(nn.Module):
    """A layer whose channels are seen with two sizes that the input's channels give."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 4)
        self.inner = nn.Linear(4, 16)
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        width = x.shape[1]
        x = self.inner(x).view(-1, width, width)
        return self.head(torch.relu(x).flatten(1))


def test_two_sizes_for_other_channels_are_written_as_numbers(cut_to: Callable[..., Any]) -> None:
    result = cut_to(Wide(), {"embed": [0, 3, 2]}, 3)
    assert "view(-1, 4, 4)" in result.text
