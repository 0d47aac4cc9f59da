"""CPU seconds of torch-kirigami to prune half of the channels, one thread.

    python benchmarks/kirigami.py [NAME ...] [--device cuda] [--write]

Each network has a process of its own, which is ended where it takes too long: first its search lets
it find what can go, and choose by the norms of filters, once. Where that fails or does not end in
time, the first half of the filters of every layer but the last is named by hand, and its graph
finds what goes with them; of that the median of three counts. With `--write` the table goes into
docs/speed.md.
"""

from __future__ import annotations

import copy
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from page import show, table
from speed import INPUT_SHAPE, asked_for, made, medians, seconds
from torch import Tensor, nn
from torch_kirigami import DependencyGraph
from torch_kirigami.pruning import ChannelRatio, Greedy, GroupMagnitude, Pruner

PATIENCE = 240  # CPU seconds for a network, either way


def search(model: nn.Module, image: Tensor) -> None:
    """Half of the channels of every layer that it finds, in place."""
    pruner = Pruner(model, graph=DependencyGraph.build(model, args=(image,)))
    strategy = Greedy(GroupMagnitude(p=1))
    pruner.prune(pruner.discover_candidates(), budget=ChannelRatio(0.5), strategy=strategy)


def by_hand(model: nn.Module, image: Tensor) -> None:
    """The first half of the filters of every layer but the last, in place."""
    graph = DependencyGraph.build(model, args=(image,))
    pruner = Pruner(model, graph=graph)
    layers = (
        path for path, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    )
    filters = [graph.parameter(f"{path}.weight").axis(0) for path in layers]
    halves = (axis.select(range(axis.tensor.shape[0] // 2)) for axis in filters[:-1])
    pruner.apply(pruner.plan_remove(halves))


WAYS = {"search": search, "hand": by_hand}


def measure(way: str, name: str, device: str) -> float:
    """The seconds that a way takes, in this process, which is ended if they are too many."""
    resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE + 9))
    torch.set_num_threads(1)
    model = made(name, device)
    image = torch.randn(1, *INPUT_SHAPE, device=device)

    def on_copy() -> Callable[[], object]:
        duplicate = copy.deepcopy(model)
        return lambda: WAYS[way](duplicate, image)

    return seconds(on_copy(), device) if way == "search" else medians(device, on_copy)[0]


def row(name: str, device: str) -> list[str]:
    """The cells of a network: seconds by the first way that ends, or why there are none."""
    failed: list[str] = []
    for way in WAYS:
        call = f"import kirigami; print(kirigami.measure({way!r}, {name!r}, {device!r}))"
        done = subprocess.run(
            [sys.executable, "-c", call], cwd=Path(__file__).parent, capture_output=True, text=True
        )
        if not done.returncode:
            cells = [*failed, f"{float(done.stdout):.3f}"]
            return [name, *cells, *[""] * (len(WAYS) - len(cells))]
        if done.returncode == -signal.SIGXCPU:
            failed.append(f"more than {PATIENCE}")
        else:
            error = done.stderr.strip().splitlines()[-1].partition(":")[0]
            failed.append(f"fails: {error.rpartition('.')[2]}")
    return [name, *failed]


def main() -> None:
    """Print the table, or write it."""
    given = asked_for(__doc__)
    rows = [row(name, given.device) for name in given.names]
    text = table(["network", "its own search", "its graph, by hand"], rows)
    show("kirigami", text, given.write)


if __name__ == "__main__":
    main()
