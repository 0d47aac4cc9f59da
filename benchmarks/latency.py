"""Networks pruned to half of their latency, timed afresh, beside what a table of layers says.

    OMP_NUM_THREADS=1 python benchmarks/latency.py [NAME ...]

Each network of torchvision reads images of 96 pixels. Asked for is half of the time that it takes;
`afresh` is what the smaller one takes when both are timed anew, in turns; `table` is the same for
the network that a table of layer latencies, measured before, gives for half of the time. For
onnxruntime widths are multiples of 8, as its fast kernels ask for. Nothing else should run
meanwhile.
"""

from __future__ import annotations

import functools
import sys
import tempfile
import time
from pathlib import Path

import torch
import torchvision
from rich.console import Console
from rich.table import Table
from torch import nn

import prunecore
from prunecore.files.latency_tables import write_table
from prunecore.latency.timing import take_turns, timing_of
from prunecore.plugins.loading import load

SHAPE = (3, 96, 96)
NAMES = ("resnet18", "mobilenet_v2", "squeezenet1_1")
BACKENDS = {"eager": 1, "onnxruntime": 8}  # what widths are multiples of
SECONDS = 5.0  # of the turns that are taken afresh


def ratio(model: nn.Module, small: nn.Module, backend: str) -> str:
    """What a smaller network takes of the time of another, and the spread of its turns."""
    run = load().latency_backend(backend)
    image = [torch.rand(1, *SHAPE)]
    turns = take_turns([run(model, image, {}), run(small.eval(), image, {})], SECONDS)
    share = float((turns[1] / turns[0]).mean())
    return f"{100 * share:.1f} % (spread {100 * timing_of(turns[1]).spread:.0f} %)"


def main(names: list[str]) -> None:
    """Prune, time, and print a table."""
    table = Table(*("network", "backend", "ms", "seconds", "afresh", "table"))
    for name in names or NAMES:
        torch.manual_seed(0)
        model = getattr(torchvision.models, name)().eval()
        traced = prunecore.trace(model, input_shape=SHAPE)
        for backend, round_to in BACKENDS.items():
            limits = prunecore.Limits(round_to=round_to)
            prune = functools.partial(
                traced.prune, 50, target="latency", limits=limits, verify=False
            )
            start = time.perf_counter()
            small = prune(latency=backend)
            seconds = time.perf_counter() - start
            found = small.report["latency"]
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder, "table.json")
                write_table(traced.latency_table(backend, round_to), file)
                looked_up = prune(latency=str(file))
            table.add_row(
                name,
                backend,
                f"{found['before']['ms']:.3g} -> {found['after']['ms']:.3g}",
                f"{seconds:.1f}",
                ratio(model, small.model, backend),
                ratio(model, looked_up.model, backend),
            )
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
