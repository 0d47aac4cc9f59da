"""Whether shares of groups chosen by their sensitivity keep more than one ranking over all.

python benchmarks/accuracy/sensitivity.py [--networks resnet20,vgg,mobilenet] [--levels 50,70] \
[--seeds 0,1]

Each cell is the percentage of 3,000 test images that are read right after a refit on 256 images
without labels, at each of the levels of the MACs, the mean over seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import numpy as np
import torch
from digits import TEST, TRAINING, digits
from networks import NETWORKS, trained
from numpy.typing import NDArray
from task import accuracy

import prunecore
from prunecore.channels.dependencies import groups_of
from prunecore.planning.cost import Counter
from prunecore.strategies.sensitivity import SHARES, sensitivity
from prunecore.traced_model import TracedModel
from prunecore_train.images.digit_pairs import SHAPE, pairs

FINE = (12.5, 25, 37.5, 50, 62.5, 75, 87.5)


def macs_of(traced: TracedModel) -> NDArray[np.float64]:
    """What goes of the MACs with a channel of each group alone, by channel."""
    dependencies = traced.dependencies
    counter, groups = Counter(dependencies), groups_of(dependencies)
    whole = np.ones(dependencies.count, dtype=bool)
    macs = np.ones(dependencies.count)
    for group in np.unique(groups[dependencies.removable]):
        members = np.flatnonzero((groups == group) & dependencies.removable)
        kept = whole.copy()
        kept[members[: len(members) // 2]] = False
        gone = counter.cost(whole).macs - counter.cost(kept).macs
        macs[members] = gone / (len(members) // 2)
    return macs


def by_curves(
    traced: TracedModel,
    surgeon: NDArray[np.float64],
    found: Mapping[str, Any],
    shares: Sequence[float],
) -> NDArray[np.float64]:
    """Scores by which shares of groups even out how steeply their squared errors rise.

    Errors of single groups are taken to add up, as those of independent noise do, so that the best
    shares for a budget are those at which the next channel of each group costs alike.

    Args:
        traced: the network.
        surgeon: the scores by which the channels of a group go.
        found: the sensitivity of its groups.
        shares: those of the levels that count, in percent.

    Returns:
        One score a channel, which rises within each group.
    """
    dependencies, groups = traced.dependencies, groups_of(traced.dependencies)
    scores = np.zeros(dependencies.count)
    for entry in found["groups"]:
        array = dependencies.axes[dependencies.layers[entry["layers"][0]]]
        members = np.flatnonzero((groups == groups[array.max()]) & dependencies.removable)
        members = members[np.argsort(surgeon[members], kind="stable")]
        levels = [level for level in entry["levels"] if level["asked"] in shares]
        gone = np.array([0, *(level["removed"] for level in levels)])
        lost = np.array([0, *(level["error"] ** 2 for level in levels)])
        slopes = np.maximum.accumulate(np.diff(lost) / np.diff(gone))
        places = np.arange(len(members))
        scores[members] = np.interp(places + 0.5, (gone[1:] + gone[:-1]) / 2, slopes)
        scores[members] += 1e-12 * places
    return scores


def ways(
    traced: TracedModel,
) -> dict[str, tuple[NDArray[np.float64], prunecore.Limits]]:
    """Scores and limits of each way to choose; no group goes further than it was tried."""
    surgeon, macs, whole = traced.scores("surgeon"), macs_of(traced), prunecore.Limits()
    found = {
        "magnitude": (traced.scores("magnitude"), whole),
        "surgeon": (surgeon, whole),
        "surgeon, by MACs": (surgeon / macs, whole),
    }
    curves = sensitivity(traced, FINE)
    for shares in (SHARES, FINE):
        scores = by_curves(traced, surgeon, curves, shares)
        held = prunecore.Limits(max_level=max(shares))
        found[f"sensitivity at {len(shares)} shares"] = scores, held
        found[f"sensitivity at {len(shares)} shares, by MACs"] = scores / macs, held
    return found


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--levels", default="50,70")
    parser.add_argument("--seeds", default="0,1")
    asked = parser.parse_args()
    torch.set_num_threads(1)  # on images this small, more threads wait for each other
    test, images = pairs(3000, TEST, 7), pairs(256, TRAINING, 99)[0]
    levels = [float(level) for level in asked.levels.split(",")]
    rows: dict[str, list[str]] = {}
    for name in asked.networks.split(","):
        cells: dict[str, list[list[float]]] = {}
        for seed in map(int, asked.seeds.split(",")):
            network = trained(name, digits(), seed)
            traced = prunecore.trace(network, input_shape=SHAPE, calibration=images)
            for way, (scores, limits) in ways(traced).items():
                row = []
                for level in levels:
                    plan = traced.plan(level, scores=scores, target="macs", limits=limits)
                    small = traced.prune(plan, name="net", verify=False).model.eval()
                    row.append(accuracy(small, *test))
                cells.setdefault(way, []).append(row)
                print(name, seed, way, row, flush=True)
        for way, measured in cells.items():
            means = [f"{mean(column):.1f}" for column in zip(*measured, strict=True)]
            rows.setdefault(way, []).append(" / ".join(means))
    print("| ranked by | " + " | ".join(asked.networks.split(",")) + " |")
    print("|" + "---|" * (1 + len(asked.networks.split(","))))
    for way, line in rows.items():
        print(f"| {way} | " + " | ".join(line) + " |")


if __name__ == "__main__":
    main()
