"""Whether shares of groups chosen by their sensitivity keep more than one ranking over all.

python benchmarks/sensitivity.py [--networks resnet20,vgg,mobilenet] [--levels 50,70] [--seeds 0,1]

Each cell is the percentage of 3,000 test images that are read right after a refit on 256 images
without labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import Any

import numpy as np
import torch
from digits import NETWORKS, SHAPE, accuracy, pairs, trained
from numpy.typing import NDArray

import prunecore
from prunecore.channels.dependencies import groups_of
from prunecore.planning.cost import Counter
from prunecore.strategies.sensitivity import SHARES, sensitivity
from prunecore.traced_model import TracedModel

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
    scores: NDArray[np.float64],
    found: Mapping[str, Any],
    shares: Sequence[float],
    loss: Callable[[float], float],
) -> NDArray[np.float64]:
    """Scores that rise within each group as the plain ones do, and by its curve's slope.

    Args:
        traced: the network.
        scores: the plain ones.
        found: the sensitivity of its groups.
        shares: those of the levels that count.
        loss: of an error.
    """
    dependencies, groups = traced.dependencies, groups_of(traced.dependencies)
    slopes = np.zeros(dependencies.count)
    for entry in found["groups"]:
        array = dependencies.axes[dependencies.layers[entry["layers"][0]]]
        group = groups[array[array >= 0][0]]
        members = np.flatnonzero((groups == group) & dependencies.removable)
        members = members[np.argsort(scores[members], kind="stable")]
        near = [
            level
            for level in entry["levels"]
            if min(abs(level["share"] - share) for share in shares) < 6
        ]
        at = [0.0, *(level["removed"] for level in near)]
        lost = [0.0, *(loss(level["error"]) for level in near)]
        slope = np.maximum.accumulate(np.diff(lost) / np.diff(at))
        middle = (np.array(at[1:]) + at[:-1]) / 2
        slopes[members] = np.interp(np.arange(len(members)) + 0.5, middle, slope)
        # beyond what was tried it rises as before
        beyond = np.arange(len(members)) + 0.5 - middle[-1]
        steep = (slope[-1] - slope[-2]) / (middle[-1] - middle[-2])
        slopes[members] += np.maximum(beyond, 0) * steep
        slopes[members] += 1e-12 * np.arange(len(members))
    return slopes


def ways(traced: TracedModel) -> dict[str, NDArray[np.float64]]:
    """The scores of each way to choose."""
    surgeon, macs = traced.scores("surgeon"), macs_of(traced)
    found = sensitivity(traced, FINE)
    ways = {
        "magnitude": traced.scores("magnitude"),
        "surgeon": surgeon,
        "surgeon / MACs": surgeon / macs,
    }
    for name, loss in (
        ("error", float),
        ("error^2", lambda e: e * e),
        ("log", lambda e: float(np.log1p(e * e))),
    ):
        for which, shares in (("3", SHARES), ("7", FINE)):
            own = by_curves(traced, surgeon, found, shares, loss)
            ways[f"{name} of {which}"] = own
            ways[f"{name} of {which} / MACs"] = own / macs
    return ways


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--levels", default="50,70")
    parser.add_argument("--seeds", default="0,1")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    test, images = pairs(3000, "test", 7), pairs(256, "train", 99)[0]
    levels = [float(level) for level in asked.levels.split(",")]
    for name in asked.networks.split(","):
        rows: dict[str, list[list[float]]] = {}
        for seed in map(int, asked.seeds.split(",")):
            traced = prunecore.trace(trained(name, seed), input_shape=SHAPE, calibration=images)
            for way, scores in ways(traced).items():
                row = []
                for level in levels:
                    plan = traced.plan(level, scores=scores, target="macs")
                    small = traced.prune(plan, name="net", verify=False).model.eval()
                    row.append(accuracy(small, *test))
                rows.setdefault(way, []).append(row)
                print(name, seed, way, [f"{cell:.2f}" for cell in row], flush=True)
        for way, cells in rows.items():
            print(
                "MEAN",
                name,
                way,
                [f"{mean(column):.2f}" for column in zip(*cells, strict=True)],
                flush=True,
            )


if __name__ == "__main__":
    main()
