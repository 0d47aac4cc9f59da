"""Seconds to prune at half of the channels, side by side with Torch-Pruning, on two threads.

Both run alternately in one process, one warm-up each; the medians of five runs are printed. What
is timed starts at the user's model and ends at a smaller model with its weights: for prunecore
that includes the written source, for Torch-Pruning the building of its dependency graph.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable

import torch
import torch_pruning
import torchvision
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import prunecore

NETWORKS = ("resnet18", "resnet50", "vgg16_bn")
INPUT_SHAPE = (3, 224, 224)
REPEATS = 5


def with_prunecore(model: nn.Module, verify: bool = False) -> nn.Module:
    """Half of the channels, ranked over the whole network."""
    return prunecore.prune(
        model, level=50, input_shape=INPUT_SHAPE, mode="l1-norm", target="channels", verify=verify
    ).model


def with_torch_pruning(model: nn.Module) -> nn.Module:
    """Half of the channels of every layer, in place."""
    classifier = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    pruner = torch_pruning.pruner.MagnitudePruner(
        model,
        torch.randn(1, *INPUT_SHAPE),
        importance=torch_pruning.importance.MagnitudeImportance(p=1),
        pruning_ratio=0.5,
        global_pruning=False,
        ignored_layers=[classifier],
    )
    pruner.step()
    return model


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def medians(*works: Callable[[], Callable[[], object]]) -> list[float]:
    """The median seconds of each, run alternately after one warm-up.

    Args:
        works: each makes, outside of the timing, what is to be called.
    """
    rounds = [[seconds(make()) for make in works] for _ in range(REPEATS + 1)]
    return [statistics.median(times) for times in zip(*rounds[1:], strict=True)]


def share_kept(small: nn.Module, model: nn.Module) -> str:
    """Share of the parameters that are left."""
    sizes = [sum(p.numel() for p in network.parameters()) for network in (small, model)]
    return f"{100 * sizes[0] / sizes[1]:.0f} %"


def pruning_row(name: str) -> list[str]:
    """Both libraries on one network."""
    model = torchvision.models.get_model(name).eval()

    def on_copy() -> Callable[[], object]:
        duplicate = copy.deepcopy(model)
        return lambda: with_torch_pruning(duplicate)

    ours, theirs = medians(lambda: lambda: with_prunecore(model), on_copy)
    left = share_kept(with_prunecore(model), model)
    left_theirs = share_kept(with_torch_pruning(copy.deepcopy(model)), model)
    return [
        name,
        f"{ours:.3f}",
        f"{theirs:.3f}",
        f"{theirs / ours:.1f}",
        left,
        left_theirs,
    ]


def verification_row(name: str) -> list[str]:
    """What verification adds, in forward passes of the original in float64."""
    model = torchvision.models.get_model(name).eval()
    exact = copy.deepcopy(model).double()
    image = torch.randn(1, *INPUT_SHAPE, dtype=torch.float64)

    def forward() -> Tensor:
        with torch.no_grad():
            return exact(image)  # type: ignore[no-any-return]

    off, on, one_pass = medians(
        lambda: lambda: with_prunecore(model),
        lambda: lambda: with_prunecore(model, verify=True),
        lambda: forward,
    )
    return [
        name,
        f"{off:.3f}",
        f"{on:.3f}",
        f"{on - off:.3f}",
        f"{one_pass:.3f}",
        f"{(on - off) / one_pass:.2f}",
    ]


def main() -> None:
    """Print both tables."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    console = Console(width=100)
    title = f"Half of the channels, l1-norm: median seconds of {REPEATS}"
    table = Table("Network", "prunecore", "Torch-Pruning", "times faster", title=title, box=SIMPLE)
    table.add_column("parameters left")
    table.add_column("by Torch-Pruning")
    for name in NETWORKS:
        table.add_row(*pruning_row(name))
    console.print(table)

    title = f"Verification: median seconds of {REPEATS}"
    table = Table(
        "Network", "off", "on", "difference", "one forward pass, float64", title=title, box=SIMPLE
    )
    table.add_column("passes")
    for name in NETWORKS:
        table.add_row(*verification_row(name))
    console.print(table)


if __name__ == "__main__":
    main()
