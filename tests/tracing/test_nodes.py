from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from prunecore.tracing.nodes import is_dead, living

LONG = 3000  # more nodes in a row than Python's calls may be deep


class Chain(nn.Module):
    """Functions of one another, and as many that nothing uses."""

    def forward(self, x: Tensor) -> Tensor:
        unused = x
        for _ in range(LONG):
            x, unused = torch.relu(x), torch.sin(unused)
        return x


def test_a_long_row_of_functions_is_told_from_one_that_nothing_uses() -> None:
    graph = fx.symbolic_trace(Chain()).graph
    nodes = living(graph)
    assert [node.op for node in nodes] == ["placeholder", *["call_function"] * LONG, "output"]
    assert {node.target for node in nodes[1:-1]} == {torch.relu}
    first, second = list(graph.nodes)[1:3]
    assert not is_dead(first)
    assert is_dead(second)
