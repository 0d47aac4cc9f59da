"""CPU seconds of torch-kirigami to prune half of the channels; speed.py runs it, and may stop it.

    python benchmarks/kirigami.py search|hand NAME [DEVICE]

`search` lets it find what can go, and choose by the norms of filters; that is done once. `hand`
names the first half of the filters of every layer but the last, and has its graph find what goes
with them.
"""

from __future__ import annotations

import copy
import resource
import sys
from collections.abc import Callable

import torch
from speed import INPUT_SHAPE, PATIENCE, made, medians, seconds
from torch import Tensor, nn
from torch_kirigami import DependencyGraph
from torch_kirigami.pruning import ChannelRatio, Greedy, GroupMagnitude, Pruner


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


def main(way: str, name: str, device: str = "cpu") -> None:
    """Print the seconds."""
    resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE + 9))  # then it is ended
    torch.set_num_threads(1)
    model = made(name, device)
    image = torch.randn(1, *INPUT_SHAPE, device=device)
    prune = search if way == "search" else by_hand

    def on_copy() -> Callable[[], object]:
        duplicate = copy.deepcopy(model)
        return lambda: prune(duplicate, image)

    taken = seconds(on_copy(), device) if way == "search" else medians(device, on_copy)[0]
    print(f"{taken:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
