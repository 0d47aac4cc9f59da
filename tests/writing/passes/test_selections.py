"""Calls that take places by their number, as they are written for the kept ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, SIZE = 8, 4


class One(nn.Module):
    """A function between two layers, with stored indices at hand."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.function = function
        self.register_buffer("index", torch.tensor([6, 1, 3, 1]))
        self.register_buffer("mask", torch.tensor([True, False] * 4))
        self.after = nn.Conv2d(function(torch.rand(2, WIDTH, SIZE, SIZE), self).shape[1], 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.function(self.before(x), self))


def swapped(parts: Any) -> Tensor:
    return torch.cat([parts[1], parts[0]], 1)


def heads(x: Tensor, _: Any) -> Tensor:
    """Takes places of each head of two, whose axis comes after another one."""
    x = x.reshape(x.size(0), 2, WIDTH // 2, SIZE, SIZE).permute(0, 1, 3, 2, 4)
    q, v = x.split([2, 2], dim=3)
    return torch.cat([v, q], 3).permute(0, 1, 3, 2, 4).reshape(x.size(0), WIDTH, SIZE, SIZE)


def shuffled(x: Tensor, _: Any) -> Tensor:
    b, c, h, w = x.shape
    return x.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, c, h, w)


def counted_shuffle(x: Tensor, _: Any) -> Tensor:
    return x.view(-1, 2, 4, 4, 4).transpose(1, 2).reshape(-1, 8, 4, 4)


# The channels that stay, and how the call is written for them.
WRITTEN: list[tuple[Callable[[Tensor, Any], Tensor], list[int], str]] = [
    (lambda x, _: x[:, :5], [0, 1, 4, 6], "self.before(x)[:, :3]"),
    (lambda x, _: x[:, 5:], [0, 1, 5, 7], "self.before(x)[:, 2:]"),
    (lambda x, _: x[:, ::2, 1:], [0, 1, 3, 4, 7], "self.before(x)[:, self.order, 1:]"),
    (lambda x, _: x[..., 2:, :, :], [0, 4, 7], "self.before(x)[:, 1:]"),
    (lambda x, _: x[:, [3, 0]], [0, 1, 3], "self.before(x)[:, self.order]"),
    (lambda x, _: x.narrow(1, 2, 3), [0, 2, 4], "self.before(x).narrow(1, 1, 2)"),
    (lambda x, _: swapped((x[:, :2], x[:, 2:])), [2, 3, 7], "torch.cat([x, x[:, :0]], 1)"),
    (lambda x, _: x.flip(1), [0, 1, 4], "self.before(x).flip(1)"),
    (lambda x, _: x.roll(1, 1), [0, 1, 4], "x = self.before(x)\nreturn"),
    (lambda x, _: x.roll(1, 1), [0, 1, 7], "self.before(x).roll(1, 1)"),
    (lambda x, _: x.roll(3, 1), [0, 1, 7], "self.before(x)[:, self.order]"),
    (shuffled, [0, 1, 4, 5], "contiguous"),
    (shuffled, [0, 1, 4, 6], "contiguous"),
    (shuffled, [0, 1, 2, 3, 6], "self.before(x)[:, self.order]"),
    (counted_shuffle, [0, 1, 2, 4, 5, 6], "view(-1, 2, 3, 4, 4)"),
    (counted_shuffle, [0, 2, 5, 6], "view(-1, 2, 2, 4, 4)"),
    (counted_shuffle, [4, 5, 6], "view(-1, 1, 3, 4, 4)"),
    (F.channel_shuffle, [0, 3, 4, 7], "torch.channel_shuffle(self.before(x), 2)"),
    (lambda x, _: x.view(-1, 2, 4, 16).view(-1, 8, 4, 4), [0, 1, 4], "x = self.before(x)\nreturn"),
    (lambda x, _: swapped(x.chunk(2, 1)), [0, 1, 4, 5], "self.before(x).chunk(2, 1)"),
    (lambda x, _: swapped(x.chunk(2, 1)), [0, 4, 5], "self.before(x).split([1, 2], 1)"),
    (lambda x, _: swapped(torch.chunk(x, 2, 1)), [0, 4, 5, 6], "self.before(x), [1, 3], 1)"),
    (lambda x, _: swapped(x.tensor_split(2, 1)), [0, 1, 4, 5], "(x).tensor_split(2, 1)"),
    (lambda x, _: swapped(x.tensor_split(2, 1)), [0, 4, 5], "self.before(x).tensor_split([1], 1)"),
    (lambda x, _: swapped(x.tensor_split((2, 5), 1)), [0, 3, 4, 6], ".tensor_split([1, 3], 1)"),
    (lambda x, _: swapped(x.split(4, 1)), [0, 1, 4, 5], "self.before(x).split(2, 1)"),
    (heads, [1, 2, 3, 5, 6, 7], "permute(0, 1, 3, 2, 4)\nq, v = x.split([1, 2], 3)"),
    (lambda x, _: swapped(x.split([4, 4], 1)), [0, 2, 4, 5], "self.before(x).split(2, 1)"),
    (lambda x, _: swapped(x.view(-1, 4, 2, 4, 4).unbind(1)), [*range(8)], "4, 4).unbind(1)"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(WRITTEN)))
def test_the_text_takes_the_kept_places(cut_to: Callable[..., Any], number: int) -> None:
    function, kept, text = WRITTEN[number]
    if function is F.channel_shuffle:
        function = lambda x, _: F.channel_shuffle(x, 2)  # noqa: E731
    result = cut_to(One(function), {"before": kept}, 3, SIZE, SIZE)
    assert text in result.forward


class Shuffles(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.right = nn.Conv2d(width // 2, width // 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        return shuffled(torch.cat([left, self.right(right)], 1), None)


def test_instances_of_one_class_stay_one_class(cut: Callable[..., Any]) -> None:
    net = nn.Sequential(
        nn.Conv2d(3, WIDTH, 1), Shuffles(WIDTH), Shuffles(WIDTH), Shuffles(WIDTH),
        nn.Conv2d(WIDTH, 4, 1),
    )  # fmt: skip
    for seed in range(3):
        result = cut(net, 3, SIZE, SIZE, seed=seed)
        assert result.text.count("class Shuffles") == 1


class Slices(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, 2:]


def test_slices_that_differ_take_their_bounds_as_arguments(cut_to: Callable[..., Any]) -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 1), Slices(), nn.Conv2d(6, 8, 1), Slices(), nn.Conv2d(6, 4, 1)
    )
    result = cut_to(net, {"0": [0, 2, 3, 4], "2": [0, 1, 5, 7]}, 3, SIZE, SIZE)
    assert result.text.count("class Slices") == 1
    assert "x.narrow(1, self." in result.text


class Wide(nn.Module):
    """As ShuffleNet's blocks, with more places than stand on a line, and groups."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, width, 1)
        self.groups = groups
        self.after = nn.Conv2d(width, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(F.channel_shuffle(self.before(x), self.groups))


@pytest.mark.parametrize(
    ("groups", "kept", "written"),
    [
        (2, [0, 1, *range(12, 29)], 'interleaved("0101111111111101010")'),
        (3, [*range(1, 6), *range(12, 30)], 'interleaved("20201201201201212121212")'),
        (15, [0, *range(2, 30)], "[0, 1, 3, 5, 7, 9, 11"),
    ],
)
def test_a_long_order_names_the_part_of_each_place(
    cut_to: Callable[..., Any], groups: int, kept: list[int], written: str
) -> None:
    result = cut_to(Wide(30, groups), {"before": kept}, 3, SIZE, SIZE)
    assert "self.before(x)[:, self.order]" in result.forward
    assert written in " ".join(result.init.split()).replace("[ 0", "[0")
    assert ("def interleaved(" in result.text) is written.startswith("interleaved")


def test_a_part_that_training_changes_in_place_may_still_be_changed(
    cut_to: Callable[..., Any],
) -> None:
    """Autograd lets parts of `tensor_split` be changed, and none of `split`."""

    def halved(x: Tensor, _: Any) -> Tensor:
        first, second = x.tensor_split(2, 1)
        return first.mul_(2) + second.sum(1, keepdim=True)

    small = cut_to(One(halved), {"before": [0, 1, 2, 5]}, 3, SIZE, SIZE).small.train()
    small(torch.rand(2, 3, SIZE, SIZE, dtype=torch.float64)).sum().backward()
    assert small.before.weight.grad is not None
