"""Accuracy after pruning, without training: prunecore beside Torch-Pruning at equal MACs.

python benchmarks/accuracy/quality.py [--networks resnet20,vgg,mobilenet] [--levels 30,50,70,80] \
[--seeds 0,1,2] [--write | --cifar FOLDER]

Each cell is the percentage of 3,000 test images that are read right: right after pruning, refitted
without images, and on the same 256 images without labels with the statistics of batch norms
estimated anew, and refitted.

The images are pairs of handwritten digits. With `--cifar` they are CIFAR-10's, read from a folder
that has `cifar-10-batches-py` in it as torchvision lays it out: networks are trained on them for 6
epochs first, which takes minutes each on several cores. What is measured then goes into
`build/quality/cifar`, and not into the page.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from cifar import cifar
from digits import digits
from networks import NETWORKS, trained
from task import IMAGES, Task, accuracy
from tools import IN_STEPS, OURS, THEIRS, Trial, head, in_steps, ours, table, theirs

sys.path.append(str(Path(__file__).parents[1]))
from page import HEAD, write_part


def measured(
    task: Task, names: list[str], levels: list[float], seeds: list[int]
) -> list[dict[str, Any]]:
    """A row for each network, seed, tool and criterion; told as they come."""
    rows: list[dict[str, Any]] = []
    images, labels = task.test
    trial = Trial(
        task.calibration, functools.partial(accuracy, images=images, labels=labels), levels
    )
    for name in names:
        for seed in seeds:
            network = trained(name, task, seed)
            torch.set_num_threads(1)  # on images this small, more threads wait for each other
            start = {"network": name, "seed": seed, "before": trial.score(network)}
            for tool, modes, run in (
                ("prunecore", OURS, ours),
                ("prunecore", IN_STEPS, in_steps),
                ("Torch-Pruning", THEIRS, theirs),
            ):
                for mode in modes:
                    cells = run(network, mode, trial)
                    rows.append({**start, "tool": tool, "mode": mode, "cells": cells})
                    print(name, seed, tool, mode, cells, flush=True)
    return rows


def tables(task: Task, rows: list[dict[str, Any]], levels: list[float]) -> str:
    """The tables, the mean over seeds in each cell."""
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        f"Networks that read {task.name} ({task.classes} classes), the mean of "
        f"{len(seeds)} seed(s), in percent of {len(task.test[1]):,} test images. Each cell: right "
        "after pruning / refitted without images (the step `data-free`) / with the batch norms' "
        f"statistics estimated anew / refitted, the last two on the same {IMAGES} images without "
        "labels. Nothing is trained. Levels are percentages of the MACs. "
        "`python -m nox -s quality` writes these tables.",
    ]
    for name in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == name]
        before = mean(row["before"] for row in own)
        lines += ["", f"## {name}, {before:.1f} before", "", *table(own, levels)]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and with `--write` write the parts of the page and of the README."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--levels", default="30,50,70,80")
    parser.add_argument("--seeds", default="0,1,2")
    images = parser.add_mutually_exclusive_group()
    images.add_argument("--write", action="store_true")
    images.add_argument("--cifar", metavar="FOLDER")
    asked = parser.parse_args(arguments)
    if asked.cifar:
        task = cifar(asked.cifar)
    else:
        torch.set_num_threads(1)
        task = digits()
    levels = [float(level) for level in asked.levels.split(",")]
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    rows = measured(task, asked.networks.split(","), levels, seeds)
    task.folder.mkdir(parents=True, exist_ok=True)
    (task.folder / "results.json").write_text(json.dumps(rows))
    text = tables(task, rows, levels)
    print(text)
    if asked.write:
        write_part("digits", text)
        write_part("quality", "\n".join(head(rows, levels)), HEAD)


if __name__ == "__main__":
    main()
