"""prunecore and Torch-Pruning, each brought to the same shares of a network's MACs.

A network that either makes is judged as it is, with the statistics of its batch norms estimated
anew, and refitted: the last two on the same images without labels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import torch
import torch.nn.functional as F
import torch_pruning
from torch import Tensor, nn

import prunecore

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
IN_STEPS = ("surgeon, 2 steps", "surgeon, 4 steps")
_STEPS = 50  # of Torch-Pruning's search for the level
KINDS = ("plain", "data-free", "statistics", "refit")

# What is measured of the network at each level, by kind; a level that was not reached is missing.
Cells = dict[float, dict[str, float]]


@dataclass(frozen=True)
class Trial:
    """What both tools are given, and how what they make is judged.

    Attributes:
        images: that may be looked at, without labels, shape `(n, channels, height, width)`.
        score: the percentage that a network in eval mode reads right.
        levels: percentages of the MACs.
    """

    images: Tensor
    score: Callable[[nn.Module], float]
    levels: Sequence[float]


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


def ours(network: nn.Module, mode: str, trial: Trial) -> Cells:
    """What prunecore writes for each level."""
    traced = prunecore.trace(
        network,
        input_shape=tuple(trial.images.shape[1:]),
        calibration=trial.images,
    )
    scores = traced.scores(mode)
    cells = {}
    for level in trial.levels:
        plan = traced.plan(level, scores=scores, target="macs")
        plain = traced.prune(plan, name="net", verify=False, recover=()).model.eval()
        refitted = traced.prune(plan, name="net").model.eval()
        cells[level] = {
            "plain": trial.score(plain),
            "statistics": trial.score(with_statistics(plain, trial.images)),
            "refit": trial.score(refitted),
        }
        if mode in WITHOUT_IMAGES:
            free = traced.prune(plan, name="net", verify=False, recover="data-free").model.eval()
            cells[level]["data-free"] = trial.score(free)
    return cells


def in_steps(network: nn.Module, mode: str, trial: Trial) -> Cells:
    """What prunecore writes for each level, reached in several steps: `surgeon, 2 steps`."""
    criterion, steps, _ = mode.replace(",", "").split()
    cells = {}
    for level in trial.levels:
        small = prunecore.prune(
            network,
            input_shape=tuple(trial.images.shape[1:]),
            level=level,
            target="macs",
            mode=criterion,
            calibration=trial.images,
            steps=int(steps),
        )
        cells[level] = {"refit": trial.score(small.model.eval())}
    return cells


def theirs(network: nn.Module, mode: str, trial: Trial) -> Cells:
    """What Torch-Pruning makes of it, pruned step by step until the level is met."""
    cells: Cells = {}
    small = copy.deepcopy(network)
    example = torch.zeros_like(trial.images[:1])
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
            _differentiate(small, trial.images)
        pruner.step()
        after, _ = torch_pruning.utils.count_ops_and_params(small, example)
        gone = 100 * (1 - after / before)
        for level in trial.levels:
            if level not in cells and gone >= level - 1:
                plain = copy.deepcopy(small).eval()
                cells[level] = {
                    "plain": trial.score(plain),
                    "statistics": trial.score(with_statistics(plain, trial.images)),
                }
        if len(cells) == len(trial.levels):
            break
    return cells


def _differentiate(network: nn.Module, images: Tensor) -> None:
    """Give the weights the gradients of the loss against the network's own predictions."""
    network.zero_grad()
    for batch in torch.split(images, 64):
        output = network(batch)
        loss = F.cross_entropy(output, output.argmax(1), reduction="sum") / len(images)
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped


def table(rows: Sequence[Mapping[str, Any]], levels: Sequence[float]) -> list[str]:
    """The lines of a table: a row for each tool and criterion, the mean of its rows in each cell.

    Args:
        rows: each with its `tool`, its `mode`, and `cells` by level.
        levels: the columns.
    """
    lines = ["| tool | criterion | " + " | ".join(f"{level:g} %" for level in levels) + " |"]
    lines.append("|---|---|" + "---|" * len(levels))
    for tool, mode in dict.fromkeys((row["tool"], row["mode"]) for row in rows):
        same = [row["cells"] for row in rows if (row["tool"], row["mode"]) == (tool, mode)]
        cells = [_cell([cells[level] for cells in same if level in cells]) for level in levels]
        lines.append(f"| {tool} | {mode} | " + " | ".join(cells) + " |")
    return lines


def head(rows: Sequence[Mapping[str, Any]], levels: Sequence[float]) -> list[str]:
    """The lines of a short table: of each network what either tool keeps at best, by one criterion.

    That is prunecore's default with images, refitted, and the best of all of Torch-Pruning's at
    each level, with the norms' statistics estimated anew or without.

    Args:
        rows: as for `table`, each with its `network` and the accuracy `before`.
        levels: the columns.
    """
    lines = ["| network | before | tool | " + " | ".join(f"{level:g} %" for level in levels) + " |"]
    lines.append("|---|---|---|" + "---|" * len(levels))
    for name in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == name]
        before = f"{mean(row['before'] for row in own):.1f}"
        ours = [row for row in own if (row["tool"], row["mode"]) == ("prunecore", "surgeon")]
        theirs = [row for row in own if row["tool"] == "Torch-Pruning"]
        for tool, found, kinds in (
            ("prunecore", ours, ("refit",)),
            ("Torch-Pruning", theirs, ("plain", "statistics")),
        ):
            kept = " | ".join(_best(found, level, kinds) for level in levels)
            lines.append(f"| {name} | {before} | {tool} | {kept} |")
    return lines


def _best(rows: Sequence[Mapping[str, Any]], level: float, kinds: Sequence[str]) -> str:
    """The greatest mean over seeds of a criterion and a kind at a level."""
    means = []
    for mode in dict.fromkeys(row["mode"] for row in rows):
        cells = [row["cells"].get(level, {}) for row in rows if row["mode"] == mode]
        means += [
            mean(cell[kind] for cell in cells)
            for kind in kinds
            if all(kind in cell for cell in cells)
        ]
    return f"{max(means):.1f}" if means else "not reached"


def _cell(cells: list[dict[str, float]]) -> str:
    if not cells:
        return "not reached"
    return " / ".join(
        f"{mean(cell[kind] for cell in cells):.1f}" if kind in cells[0] else "-" for kind in KINDS
    )
