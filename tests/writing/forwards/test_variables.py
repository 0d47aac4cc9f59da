"""A variable keeps what it holds until all that reads it has read it, whoever else reads what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Plus(nn.Module):
    """Adds a layer of one tensor to another one."""

    def __init__(self, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.layer, self.shortcut = nn.Linear(6, 6), shortcut

    def forward(self, x: Tensor, identity: Tensor) -> Tensor:
        if self.shortcut is not None:
            identity = self.shortcut(identity)
        return torch.tanh(self.layer(x)) + identity


class Net(nn.Module):
    """Layers of one width, and a function of them and of what the first one makes."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.wide, self.last = nn.Linear(12, 6), nn.Linear(6, 2)
        self.layers = nn.ModuleList([nn.Linear(6, 6) for _ in range(3)])
        self.plus = Plus()
        self.pluses = nn.ModuleList([Plus() for _ in range(3)])
        self.mixed = nn.ModuleList([Plus(), Plus(nn.Linear(6, 6))])
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self, x))


def gated(x: Tensor) -> Tensor:
    """Reads twice what the forward that calls it has no name for."""
    return torch.tanh(x) * x


def joined_with_itself(net: Any, x: Tensor) -> Tensor:
    x = net.first(x)
    net.a(x)
    return gated(net.wide(torch.cat((x, x), 2))) - x


def multiplied_by_itself(net: Any, x: Tensor) -> Tensor:
    x = net.first(x)
    net.a(x)
    return gated(net.b(torch.mul(x, x))) - x


def three_times_in_a_sum(net: Any, x: Tensor) -> Tensor:
    x = net.first(x)
    net.a(x)
    net.b(x)
    return gated(torch.addcmul(x, x, x)) - x


def given_twice(net: Any, x: Tensor) -> Tensor:
    x = net.first(x)
    net.a(x)
    return gated(net.plus(x, x)) - x


def given_twice_in_a_loop(net: Any, x: Tensor) -> Tensor:
    y = net.first(x)
    for block in net.pluses:
        net.a(x)
        x = gated(block(x, x)) - y
    return x * y


def a_sum_that_nothing_reads(net: Any, x: Tensor) -> Tensor:
    x = net.first(x)
    h = net.a(x)
    unused = x + h  # noqa: F841
    return gated(net.b(gated(h))) - x


def a_call_that_nothing_reads(net: Any, x: Tensor) -> Tensor:
    x = net.first(x)
    h = net.a(x)
    unused = net.plus(x, h)  # noqa: F841
    return gated(net.b(gated(h))) - x


def a_chain_that_nothing_reads(net: Any, x: Tensor) -> Tensor:
    x = net.first(x)
    unused = torch.relu(x)
    unused = unused + unused
    h = net.a(x)
    unused = unused * h
    return gated(net.b(gated(h))) - x


def a_part_that_nothing_reads(net: Any, x: Tensor) -> Tensor:
    x = net.first(x)
    one, _ = x.chunk(2, 2)
    return gated(net.wide(torch.cat((x, one, one), 2))) - x


def an_alias_of_an_input(net: Any, x: Tensor) -> Tensor:
    p = x
    x = net.plus(x, p)
    x = net.a(torch.tanh(x) * x)
    return x - p


def an_alias_through_blocks(net: Any, x: Tensor) -> Tensor:
    p = x
    for block in net.pluses:
        x = block(x, p)
    return x * p


def an_alias_through_blocks_that_differ(net: Any, x: Tensor) -> Tensor:
    p = x
    for block in net.mixed:
        x = block(x, p)
    return x * torch.sigmoid(p)


def an_alias_in_a_loop(net: Any, x: Tensor) -> Tensor:
    x = net.first(x)
    p = x
    for layer in net.layers:
        x = F.relu(layer(x) + p)
    return net.a(x) - p


def both_in_a_loop(net: Any, x: Tensor) -> Tensor:
    y = net.first(x)
    for layer in net.layers:
        layer(y)
        x, y = y, torch.tanh(layer(y) * y)
    return x - y


def swapped_names(net: Any, x: Tensor) -> Tensor:
    y = net.first(x)
    z = net.a(y)
    y, z = z, y
    y = net.b(torch.tanh(y) * y)
    return y - z


@pytest.mark.parametrize(
    "function",
    [
        joined_with_itself,
        multiplied_by_itself,
        three_times_in_a_sum,
        given_twice,
        given_twice_in_a_loop,
        a_sum_that_nothing_reads,
        a_call_that_nothing_reads,
        a_chain_that_nothing_reads,
        a_part_that_nothing_reads,
        an_alias_of_an_input,
        an_alias_through_blocks,
        an_alias_through_blocks_that_differ,
        an_alias_in_a_loop,
        both_in_a_loop,
        swapped_names,
    ],
)
def test_a_variable_is_given_away_only_when_nothing_reads_it(
    cut: Callable[..., Any], function: Callable[[Any, Tensor], Tensor]
) -> None:
    for seed in range(3):
        cut(Net(function), 4, 6, seed=seed)
