"""Modules that are called twice, whose text is written once for both calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

WIDTH, SIZE = 8, 4


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Twice(nn.Module):
    """A module without weights after two layers."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, WIDTH, 1)
        self.shared = Function(function)
        self.second = nn.Conv2d(WIDTH, WIDTH, 1)
        self.last = nn.Conv2d(WIDTH, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(self.first(x))
        return self.last(self.shared(self.second(x)))


def shuffled(x: Tensor) -> Tensor:
    return x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


@pytest.mark.parametrize(
    "function",
    [
        shuffled,
        lambda x: torch.cat([x[:, 3:], x[:, :3]], 1),
        lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
        lambda x: x.flatten(1).view(-1, WIDTH, SIZE, SIZE),
        lambda x: x.unflatten(1, (4, x.shape[1] // 4)).tanh().flatten(1, 2),
    ],
)
def test_both_calls_keep_the_same_places_where_the_text_names_some(
    cut: Callable[..., Any], function: Callable[[Tensor], Tensor]
) -> None:
    found = cut(Twice(function), 3, SIZE, SIZE).dependencies
    axes = [found.axes[found.layers[layer]].tolist() for layer in ("first", "second")]
    assert axes[0] == axes[1]


def test_a_list_of_what_is_held_elsewhere_is_written(cut: Callable[..., Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 8, 1)
            self.shared = nn.Conv2d(8, 8, 1)
            self.again = nn.ModuleList([self.shared])
            self.last = nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.again[0](self.shared(self.first(x))))

    result = cut(Net(), 3, SIZE, SIZE)
    assert result.dependencies.left_out == ()
    assert result.small.again[0] is result.small.shared


def test_places_stay_where_another_call_is_given_what_always_stays(
    cut: Callable[..., Any],
) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 3, 1)
            self.shared = Function(lambda x: x[:, [2, 0]])
            self.last = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            return self.last(torch.cat([self.shared(x), self.shared(y)], 1))

    found = cut(Net(), 3, SIZE, SIZE).dependencies
    assert found.left_whole == {"first": "a module that is called twice takes places of it"}


@pytest.mark.parametrize(
    "function", [torch.relu, lambda x: x.flip(1), lambda x: x.flatten(2).mean(2)[..., None, None]]
)
def test_calls_are_free_of_one_another_elsewhere(
    cut: Callable[..., Any], function: Callable[[Tensor], Tensor]
) -> None:
    found = cut(Twice(function), 3, SIZE, SIZE).dependencies
    axes = [found.axes[found.layers[layer]].tolist() for layer in ("first", "second")]
    assert not set(axes[0]) & set(axes[1])


@pytest.mark.parametrize(
    "shared", [nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1))]
)
def test_a_layer_takes_all_where_one_of_its_calls_is_given_the_input(
    cut: Callable[..., Any], shared: nn.Module
) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 3, 1)
            self.shared = shared
            self.last = nn.Conv2d(6, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.cat([self.shared(self.first(x)), self.shared(x)], 1))

    found = cut(Net(), 3, SIZE, SIZE).dependencies
    assert found.left_whole["first"] == "a layer that is given it is given what stays, too"
