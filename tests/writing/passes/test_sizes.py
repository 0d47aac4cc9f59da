"""Sizes that a forward computes, as they are written for the kept channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...conftest import check_outputs, masked

WIDTH = 6


class Between(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor], out: int = WIDTH) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, WIDTH, 1)
        self.function = function
        self.after = nn.Conv2d(out, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.function(self.before(x)))


def in_groups(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return torch.relu(x.view(n, 3, c // 3, h, w)).reshape(n, c, h, w)


def test_a_size_within_groups_stays_where_whole_groups_go(cut_to: Callable[..., Any]) -> None:
    found = cut_to(Between(in_groups), {"before": [0, 1, 4, 5]}, 3, 4, 4)
    assert "//" not in found.text


def test_a_size_that_still_holds_is_computed(cut_to: Callable[..., Any]) -> None:
    found = cut_to(Between(in_groups), {}, 3, 4, 4)
    assert "// 3" in found.text


def test_a_size_is_written_alike_in_all_instances_of_a_class(cut_to: Callable[..., Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pieces = nn.ModuleList(Between(in_groups) for _ in range(2))
            self.end = nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.end(torch.cat([piece(x) for piece in self.pieces], 1))

    found = cut_to(Net(), {"pieces.0.before": [0, 1, 4, 5]}, 3, 4, 4)
    assert "//" not in found.text


class Unlike(nn.Module):
    """A tensor takes the shape of another that is cut otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, WIDTH, 1)
        self.middle = nn.Conv2d(WIDTH, WIDTH, 1)
        self.after = nn.Conv2d(WIDTH, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        return self.after(self.middle(x).flatten(2).view(x.shape))


def test_the_shape_of_what_is_cut_otherwise_has_its_width_written(
    cut_to: Callable[..., Any],
) -> None:
    found = cut_to(Unlike(), {"before": [0, 1, 4, 5], "middle": [2, 3]}, 3, 4, 4)
    assert "b, _, h, w = x.shape" in found.text
    assert "view((b, 2, h, w))" in found.text


def test_half_as_many_zeros_stay_as_many_as_they_were(cut_to: Callable[..., Any]) -> None:
    def function(x: Tensor) -> Tensor:
        return torch.cat([x, x.new_zeros(x.size(0), x.size(1) // 2, 4, 4)], 1)

    model = Between(function, out=WIDTH + 3)
    found = cut_to(model, {"before": [1, 2]}, 3, 4, 4)
    assert "x.new_zeros(x.size(0), 3, 4, 4)" in found.text


class Padded(nn.Module):
    """Channels are added that the height of the maps counts, and meet those of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, WIDTH, 1)
        self.beside = nn.Conv2d(3, WIDTH + 4, 1)
        self.after = nn.Conv2d(WIDTH + 4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        more = F.pad(self.before(x), (0, 0, 0, 0, 1, x.shape[2] - 1))
        return self.after(more + self.beside(x))


ADDED = [
    ([0, 1, 2, 7, 8, 9], "(0, 0, 0, 0, 1, x.shape[2] - 1)"),
    ([0, 1, 2, 8], "(0, 0, 0, 0, 1, 1)"),
]


@pytest.mark.parametrize(("kept", "text"), ADDED)
def test_as_many_places_are_added_as_are_kept_of_a_computed_number(
    cut_to: Callable[..., Any], kept: list[int], text: str
) -> None:
    assert text in cut_to(Padded(), {"beside": kept}, 3, 4, 4).text


HEADS, EMBED = 2, 8


class Heads(nn.Module):
    """A layer whose channels are seen as heads of a width that the input's channels give."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(EMBED, EMBED)
        self.proj = nn.Linear(EMBED, EMBED)

    def forward(self, x: Tensor) -> Tensor:
        n, width = x.shape
        x = self.qkv(x).reshape(n, HEADS, width // HEADS) * 2
        return self.proj(x.reshape(n, width))


class Outer(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.embed = nn.Linear(3, EMBED)
        self.blocks = nn.Sequential(*(Heads() for _ in range(count)))
        self.head = nn.Linear(EMBED, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.embed(x)))


def test_a_size_for_other_channels_is_left_to_be_found_out(cut_to: Callable[..., Any]) -> None:
    kept = {"embed": [0, 3, 4], "blocks.0.qkv": [0, 1, 4, 5]}
    result = cut_to(Outer(1), kept, 3)
    assert "reshape(n, 2, -1)" in result.text
    assert "reshape(n, -1)" in result.text


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


@pytest.mark.parametrize(
    ("between", "text"),
    [
        (lambda x: x * (1.0 + (x.shape == (2, 6, 4, 4))), "((b, 6, h, w) == (2, 6, 4, 4))"),
        (lambda x: x * (1.0 + (x.shape[1:] == (6, 4, 4))), "((6, h, w) == (6, 4, 4))"),
    ],
)
def test_a_shape_is_compared_as_it_was(
    cut: Callable[..., Any], between: Callable[[Tensor], Tensor], text: str
) -> None:
    assert text in cut(Between(between), 3, 4, 4).forward


class Divided(nn.Module):
    """Divides by the number of channels, or of rows."""

    def __init__(self, by_rows: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 1)
        self.by_rows = by_rows

    def forward(self, x: Tensor) -> Tensor:
        number = x.size(2) if self.by_rows else x.size(1)
        return self.conv(x) / number


def test_what_counts_channels_in_one_block_may_count_rows_in_another(
    cut: Callable[..., Any],
) -> None:
    net = nn.Sequential(nn.Conv2d(3, WIDTH, 1), Divided(False), Divided(True), nn.Conv2d(6, 4, 1))
    found = cut(net, 3, 4, 4)
    check_outputs(masked(found.model, found.keep), found.small, (2, 3, 7, 7))
