"""What the loop of `train` takes beside a bare PyTorch loop on the same network and images.

python benchmarks/loop.py [--turns 5]

A ResNet20 trains on pairs of digits for an epoch, with validation after it, in turn by both. Prints
the CPU seconds of each, the least of all turns, and how much longer the first takes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from prunecore_train import Data, DataConfig, Network, TrainConfig
from prunecore_train.training.optimizers import optimizer_of, schedule_of
from prunecore_train.training.trainer import Machine, fit

sys.path.insert(0, str(Path(__file__).parents[1] / "demo"))
from resnet20 import resnet20

_CONFIG = TrainConfig(epochs=1, metrics=("top-1",))


def _bare(network: nn.Module, data: Data) -> None:
    """The loop that one writes by hand."""
    optimizer = optimizer_of(_CONFIG.optimizer, network.parameters())
    loader = data.train_dataloader()
    assert _CONFIG.schedule is not None
    schedule = schedule_of(_CONFIG.schedule, optimizer, _CONFIG.epochs, len(loader))
    network.train()
    for images, labels in loader:
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    network.eval()
    right = 0
    with torch.no_grad():
        for images, labels in data.val_dataloader():
            right += int((network(images).argmax(1) == labels).sum())


def _lightning(network: nn.Module, data: Data) -> None:
    """That of `train`, with its checkpoints."""
    with tempfile.TemporaryDirectory() as folder:
        module = Network(network, _CONFIG, classes=100)
        fit(module, data, Path(folder), "loop", Machine("cpu"))


def _seconds(run: Callable[[nn.Module, Data], None]) -> float:
    torch.manual_seed(0)
    network, data = resnet20(100), Data(DataConfig(name="digit-pairs"))
    start = time.process_time()
    run(network, data)
    return time.process_time() - start


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure in turn, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args(arguments).turns
    torch.set_num_threads(1)
    ours, bare = zip(*((_seconds(_lightning), _seconds(_bare)) for _ in range(turns)), strict=True)
    print(f"bare {min(bare):.2f} s, prunecore train {min(ours):.2f} s", end="")
    print(f": {100 * (min(ours) / min(bare) - 1):.1f} % longer")


if __name__ == "__main__":
    main()
