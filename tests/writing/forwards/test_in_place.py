"""What changes a tensor in place changes it for all that reads it afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
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
    result = cut(Positions(), 3, seed=1)
    assert result.small.rows.shape == result.small.columns.shape != (4, 6)
    assert result.dependencies.left_whole == {}


class Net(nn.Module):
    """A function between two layers, with others at hand."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.drop = nn.Dropout(0.5)
        self.gate = Gate()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self, self.first(x)))


class Gate(nn.Module):
    """Returns what it is given, but in training."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5 if self.training else x


def alone(net: Any, x: Tensor) -> Tensor:
    y = net.second(x)
    y += x
    return y


def of_another_name(_net: Any, x: Tensor) -> Tensor:
    y = x
    x += torch.sigmoid(x)
    return x * y


def of_what_a_part_is_of(_net: Any, x: Tensor) -> Tensor:
    y = x[:, :1]
    x *= torch.sigmoid(x)
    return x - y


def through_a_layer(net: Any, x: Tensor) -> Tensor:
    y = net.drop(x)
    y += torch.sigmoid(x)
    return x * y


def through_a_module(net: Any, x: Tensor) -> Tensor:
    y = net.gate(x)
    y /= 2
    return x * y


def in_a_row(net: Any, x: Tensor) -> Tensor:
    y = net.second(x)
    y += x
    x = y
    y *= 0.5
    return x - y.sigmoid()


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (alone, "x = self.second(x) + x"),
        (of_another_name, "y.add_("),
        (of_what_a_part_is_of, "x.mul_("),
        (through_a_layer, "add_("),
        (through_a_module, "div_(2)"),
        (in_a_row, "mul_(0.5)"),
    ],
)
def test_an_augmented_assignment_changes_what_others_read(
    cut: Callable[..., Any], function: Callable[[Any, Tensor], Tensor], text: str
) -> None:
    model = Net(function)
    for seed in range(3):
        assert text in cut(model, 3, seed=seed).forward


def test_a_caller_sees_what_becomes_of_its_tensor(cut: Callable[..., Any]) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            x += 1.0
            return self.layer(x)

    class Caller(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.block, self.last = nn.Linear(3, 6), Block(), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.last(self.block(x) * x)

    cut(Caller(), 3)
