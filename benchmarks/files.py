"""How many of the core's files one prune of a small network goes through.

python benchmarks/files.py [--list]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import prunecore

CORE = Path(prunecore.__file__).parent
WIDTH = 8


class FourLayers(nn.Module):
    """Three convolutions and a linear layer, with a forward of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, 3)
        self.conv2 = nn.Conv2d(WIDTH, WIDTH, 3)
        self.conv3 = nn.Conv2d(WIDTH, WIDTH, 3)
        self.fc = nn.Linear(4 * WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of ten classes, shape `(n, 10)`, for images of shape `(n, 3, 8, 8)`."""
        x = torch.relu(self.conv1(x))
        x = torch.relu(self.conv2(x))
        x = torch.relu(self.conv3(x))
        out: Tensor = self.fc(x.flatten(1))
        return out


def in_sequence() -> nn.Module:
    """The same layers as a list that torch runs."""
    net = FourLayers()
    relu = nn.ReLU()
    layers = (net.conv1, relu, net.conv2, relu, net.conv3, relu, nn.Flatten(), net.fc)
    return nn.Sequential(*layers)


def entered(job: Callable[[], Any]) -> set[str]:
    """The files of the core of which a job calls functions, from the core's folder."""
    names: set[str] = set()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            names.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        job()
    finally:
        sys.setprofile(None)
    paths = [Path(name) for name in names]
    return {str(path.relative_to(CORE)) for path in paths if path.is_relative_to(CORE)}


def main() -> None:
    """Print the table, or with `--list` the files."""
    table = Table(title="Files of prunecore/ that a prune enters")
    for heading in ("network", "files"):
        table.add_column(heading)
    for name, network in (("nn.Sequential", in_sequence()), ("own forward", FourLayers())):

        def job(network: nn.Module = network) -> None:
            prunecore.prune(network, torch.rand(1, 3, 8, 8), level=50)

        job()  # imports and caches
        files = sorted(entered(job))
        table.add_row(name, "\n".join(files) if "--list" in sys.argv else str(len(files)))
    Console().print(table)


if __name__ == "__main__":
    main()
