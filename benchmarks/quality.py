"""Accuracy after pruning, without training: prunecore beside Torch-Pruning at equal MACs.

python benchmarks/quality.py [--networks resnet20,vgg,mobilenet] [--levels 30,50,70,80] \
[--seeds 0,1,2] [--write]

Each cell is the percentage of 3,000 test images that are read right: right after pruning, refitted
without images, and on the same 256 images without labels with the statistics of batch norms
estimated anew, and refitted.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import torch_pruning
from digits import CLASSES, NETWORKS, SHAPE, accuracy, pairs, trained
from torch import Tensor, nn

import prunecore

PAGE = Path("docs/quality.md")
RESULTS = Path("build/quality/results.json")
IMAGES = 256
WITHOUT_IMAGES = ("random", "l1-norm", "l2-norm", "bn-scale", "fpgm", "lamp", "magnitude")
OURS = (
    *WITHOUT_IMAGES,
    "taylor",
    "fisher",
    "activation",
    "reconstruction",
    "surgeon",
)
THEIRS: Mapping[str, Callable[[], Any]] = {
    "random": torch_pruning.importance.RandomImportance,
    "magnitude l1": lambda: torch_pruning.importance.MagnitudeImportance(p=1),
    "magnitude l2": lambda: torch_pruning.importance.MagnitudeImportance(p=2),
    "group magnitude": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=2),
    "bn scale": torch_pruning.importance.BNScaleImportance,
    "fpgm": torch_pruning.importance.FPGMImportance,
    "lamp": torch_pruning.importance.LAMPImportance,
    "taylor": torch_pruning.importance.GroupTaylorImportance,
}
_STEPS_OF_OURS = 4
IN_STEPS = (f"surgeon, {_STEPS_OF_OURS} steps",)
_STEPS = 50  # of Torch-Pruning's search for the level


@torch.no_grad()
def with_statistics(network: nn.Module, images: Tensor) -> nn.Module:
    """A copy whose batch norms have the statistics of these images."""
    estimated = copy.deepcopy(network)
    norms = [module for module in estimated.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for batch in torch.split(images, 128):
        estimated(batch)
    return estimated.eval()


def ours(
    network: nn.Module, mode: str, levels: list[float], images: Tensor, test: tuple[Tensor, Tensor]
) -> dict[float, dict[str, float]]:
    """Accuracy of what prunecore writes for each level."""
    traced = prunecore.trace(network, input_shape=SHAPE, calibration=images)
    scores = traced.scores(mode)
    cells = {}
    for level in levels:
        plan = traced.plan(level, scores=scores, target="macs")
        plain = traced.prune(plan, name="net", verify=False, recover=()).model.eval()
        refitted = traced.prune(plan, name="net").model.eval()
        cells[level] = {
            "plain": accuracy(plain, *test),
            "statistics": accuracy(with_statistics(plain, images), *test),
            "refit": accuracy(refitted, *test),
        }
        if mode in WITHOUT_IMAGES:
            free = traced.prune(plan, name="net", verify=False, recover="data-free").model.eval()
            cells[level]["data-free"] = accuracy(free, *test)
    return cells


def in_steps(
    network: nn.Module, mode: str, levels: list[float], images: Tensor, test: tuple[Tensor, Tensor]
) -> dict[float, dict[str, float]]:
    """Accuracy of what prunecore writes for each level, reached in several steps."""
    cells = {}
    for level in levels:
        small = prunecore.prune(
            network,
            input_shape=SHAPE,
            level=level,
            target="macs",
            mode=mode.partition(",")[0],
            calibration=images,
            steps=_STEPS_OF_OURS,
        )
        cells[level] = {"refit": accuracy(small.model.eval(), *test)}
    return cells


def theirs(
    network: nn.Module, mode: str, levels: list[float], images: Tensor, test: tuple[Tensor, Tensor]
) -> dict[float, dict[str, float]]:
    """Accuracy of what Torch-Pruning makes of it, pruned step by step until the level is met."""
    cells: dict[float, dict[str, float]] = {}
    small = copy.deepcopy(network)
    example = torch.zeros(1, *SHAPE)
    last = [module for module in small.modules() if isinstance(module, nn.Linear)][-1]
    pruner = torch_pruning.pruner.MetaPruner(
        small,
        example,
        importance=THEIRS[mode](),
        global_pruning=True,
        pruning_ratio=0.95,
        iterative_steps=_STEPS,
        ignored_layers=[last],
    )
    before, _ = torch_pruning.utils.count_ops_and_params(small, example)
    for _ in range(_STEPS):
        if mode == "taylor":
            small.zero_grad()
            output = small(images)
            torch.nn.functional.cross_entropy(output, output.argmax(1)).backward()  # type: ignore[no-untyped-call]
        pruner.step()
        after, _ = torch_pruning.utils.count_ops_and_params(small, example)
        gone = 100 * (1 - after / before)
        for level in levels:
            if level not in cells and gone >= level - 1:
                plain = copy.deepcopy(small).eval()
                cells[level] = {
                    "plain": accuracy(plain, *test),
                    "statistics": accuracy(with_statistics(plain, images), *test),
                }
    return cells


def measured(names: list[str], levels: list[float], seeds: list[int]) -> list[dict[str, Any]]:
    """A row for each network, seed, tool and criterion; written down as they come."""
    rows: list[dict[str, Any]] = []
    test = pairs(3000, "test", 7)
    images = pairs(IMAGES, "train", 99)[0]
    for name in names:
        for seed in seeds:
            network = trained(name, seed)
            start = {"network": name, "seed": seed, "before": accuracy(network, *test)}
            for tool, modes, run in (
                ("prunecore", OURS, ours),
                ("prunecore", IN_STEPS, in_steps),
                ("Torch-Pruning", THEIRS, theirs),
            ):
                for mode in modes:
                    cells = run(network, mode, levels, images, test)
                    rows.append({**start, "tool": tool, "mode": mode, "cells": cells})
                    print(name, seed, tool, mode, cells, flush=True)
    return rows


def page(rows: list[dict[str, Any]], levels: list[float]) -> str:
    """The tables of the page, the mean over seeds in each cell."""
    seeds = sorted({row["seed"] for row in rows})
    lines = [
        "# Accuracy after pruning",
        "",
        f"Networks that read pairs of handwritten digits ({CLASSES} classes), the mean of "
        f"{len(seeds)} seed(s), in percent of 3,000 test images. Each cell: right after pruning / "
        "refitted without images (the step `data-free`) / with the batch norms' statistics "
        f"estimated anew / refitted, the last two on the same {IMAGES} images without labels. "
        "Nothing is trained. Levels are percentages of the MACs. "
        "`python -m nox -s quality` writes this page.",
    ]
    for name in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == name]
        before = mean(row["before"] for row in own)
        lines += ["", f"## {name}, {before:.1f} before", ""]
        lines += ["| tool | criterion | " + " | ".join(f"{level:g} %" for level in levels) + " |"]
        lines += ["|---|---|" + "---|" * len(levels)]
        for tool, mode in dict.fromkeys((row["tool"], row["mode"]) for row in own):
            same = [row["cells"] for row in own if (row["tool"], row["mode"]) == (tool, mode)]
            cells = [_cell([cells[level] for cells in same if level in cells]) for level in levels]
            lines.append(f"| {tool} | {mode} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(cells: list[dict[str, float]]) -> str:
    if not cells:
        return "not reached"
    return " / ".join(
        f"{mean(cell[kind] for cell in cells):.1f}" if kind in cells[0] else "-"
        for kind in ("plain", "data-free", "statistics", "refit")
    )


def main() -> None:
    """Measure, print, and with `--write` write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--levels", default="30,50,70,80")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)  # on images this small, more threads wait for each other
    levels = [float(level) for level in asked.levels.split(",")]
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    rows = measured(asked.networks.split(","), levels, seeds)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(rows))
    text = page(rows, levels)
    print(text)
    if asked.write:
        PAGE.write_text(text)


if __name__ == "__main__":
    main()
