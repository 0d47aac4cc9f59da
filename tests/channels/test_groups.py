"""Coupled groups: layers that share channels, through others where need be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from prunecore.channels.groups import coupled_groups


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(3, 4)
        self.inner, self.last = nn.Linear(4, 5), nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(torch.cat([self.a(x), self.b(x)], 1) + self.c(x)))


def test_layers_that_share_channels_are_one_group(find: Callable[..., Any]) -> None:
    found = find(Branches(), (2, 3))
    groups = coupled_groups(found)
    of = {path: set(groups[found.axes[index]]) for path, index in found.layers.items()}
    assert of == {"a": {0}, "b": {0}, "c": {0}, "inner": {1}, "last": {2}}
    assert groups.shape == (found.count,)


def test_groups_that_are_only_read_together_stay_apart(find: Callable[..., Any]) -> None:
    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.last = nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.cat([self.a(x), self.b(x)], 1))

    found = find(Read(), (2, 3))
    assert coupled_groups(found)[:4].tolist() == [0, 0, 1, 1]


def test_a_network_without_channels_has_no_groups(find: Callable[..., Any]) -> None:
    assert coupled_groups(find(nn.ReLU(), (2, 3))).tolist() == []
