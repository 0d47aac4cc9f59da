"""Lists that forwards build, hand to submodules and change are followed as Python does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from prunecore.replaying import replay
from prunecore.tracing import trace_level


class Branches(nn.Module):
    """Sets the items of the list that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        for i, layer in enumerate(self.layers):
            xs[i] = layer(xs[i])
        return [xs[0] + xs[1], xs[1]]


class Scales(nn.Module):
    """A network of several scales, which asks what it was returned."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 6), nn.Linear(3, 6)
        self.branches = Branches()
        self.last = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        ys = self.branches([self.first(x), self.second(x)])
        y = ys[0] if isinstance(ys, list) and len(ys) == 2 else ys
        return self.last(y)


def test_a_submodule_sets_the_items_of_a_list(cut: Callable[..., Any]) -> None:
    result = cut(Scales(), 3)
    assert "self.branches([first, second])" in result.forward


def test_a_replayed_forward_hands_on_lists_that_can_be_changed() -> None:
    net, x = Scales().eval(), torch.rand(2, 3)
    graph = trace_level(net, "", {"x": x.to("meta")}).eval
    assert replay(net, graph, {}, x).equal(net(x))
