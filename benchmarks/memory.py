"""Peak memory of pruning over the size of the weights, each in a fresh process; Linux only.

python benchmarks/memory.py [--write]
"""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import torch
import torchvision
from page import parser_of, show, table

import prunecore

NETWORKS = ("resnet18", "resnet50", "vgg16_bn")


def resident(field: str) -> int:
    """Bytes of this process: `VmRSS` now, `VmHWM` at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(field))
    return 1024 * int(line.split()[1])


def measure(name: str, verify: bool) -> tuple[int, int]:
    """Bytes of the weights, and what pruning takes beside the user's model at its peak."""
    torch.set_num_threads(2)
    model = torchvision.models.get_model(name)
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    prunecore.prune(model, level=50, target="channels", input_shape=(3, 224, 224), verify=verify)
    return weights, resident("VmHWM") - before


def main() -> None:
    """Print the table, or write it."""
    write = parser_of(__doc__).parse_args().write
    jobs = [(name, verify) for name in NETWORKS for verify in (False, True)]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        results = pool.starmap(measure, jobs, chunksize=1)
    rows = []
    for name, off, on in zip(NETWORKS, results[::2], results[1::2], strict=True):
        times = [extra / weights + own for weights, extra in (off, on) for own in (0, 1)]
        rows.append([name, f"{off[0] / 1e6:.0f}", *(f"{value:.2f}" for value in times)])
    heads = ["beside the model", "with the model", "verified: beside", "verified: with"]
    show("memory", table(["network", "weights, MB", *heads], rows), write)


if __name__ == "__main__":
    main()
