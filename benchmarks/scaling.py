"""How the walk, the plan and the writing grow with a network's number of blocks.

python benchmarks/scaling.py
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from prunecore.channels.keep import Keep
from prunecore.criteria.criterion import ScoringContext
from prunecore.inputs import of_shape
from prunecore.planning.plan import make_plan
from prunecore.plugins.loading import load
from prunecore.walking.network import walk
from prunecore.writing.source_file import write_network

BLOCKS = (100, 200, 400)
WIDTH = 16


class Block(nn.Module):
    """A residual block that no plugin owns."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(WIDTH)
        self.conv2 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Its input, and what the branch makes of it."""
        out: Tensor = self.conv2(torch.relu(self.bn1(self.conv1(x))))
        return x + out


def network(blocks: int) -> nn.Module:
    """So many blocks, one after the other."""
    body = [Block() for _ in range(blocks)]
    return nn.Sequential(nn.Conv2d(3, WIDTH, 3), *body, nn.Conv2d(WIDTH, 10, 1))


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and its seconds."""
    start = time.perf_counter()
    return function(), time.perf_counter() - start


def measure(blocks: int) -> list[float]:
    """The seconds of walk, plan and writing."""
    model, plugins = network(blocks), load()
    found, walking = timed(lambda: walk(model, of_shape((3, 16, 16)), plugins))
    scores = plugins.criterion("l1-norm")(ScoringContext(found, found.tensors, seed=0))
    plan, planning = timed(lambda: make_plan(found, scores, 50))
    keep = Keep(model, found, plan.kept)
    _, writing = timed(lambda: write_network(model, keep, plugins, "net", "A network."))
    return [walking, planning, writing]


def main() -> None:
    """Print the table."""
    measure(10)  # imports and caches
    table = Table(title="Seconds by number of blocks")
    for heading in ("blocks", "walk", "plan", "write"):
        table.add_column(heading, justify="right")
    for blocks in BLOCKS:
        table.add_row(str(blocks), *(f"{seconds:.2f}" for seconds in measure(blocks)))
    Console().print(table)


if __name__ == "__main__":
    main()
