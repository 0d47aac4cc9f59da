"""What `adapt` and `compare` come to on subsets of the pairs of digits, beside a full sweep.

python benchmarks/accuracy/adaptation.py [--networks resnet20,mobilenet] [--classes 10,20] \
[--seeds 0,1,2] [--write]

For each network, seed and subset: the network is trained on all 100 classes; `adapt` searches the
level; every level of the search is then tried, which tells the highest that holds; `adapt` once
more without a refit tells how many epochs that saves; and `compare` at the level that was found.
All of it lies in build/adaptation, and what was done before is not done again.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
import yaml

from prunecore_train.config import read_job
from prunecore_train.jobs.adapt import adapt, prober_of
from prunecore_train.jobs.compare import compare
from prunecore_train.jobs.subjects import subject_of
from prunecore_train.jobs.training import train
from prunecore_train.training.trainer import Machine

sys.path.append(str(Path(__file__).parents[1]))
from page import DOCS, write_part

_FOLDER = Path("build/adaptation")
_NETWORKS = Path(__file__).with_name("networks.py").absolute()
_FACTORIES = {"resnet20": "resnet20", "mobilenet": "MobileNet"}
_MACHINE = Machine("cpu")
_RATES = {"resnet20": 0.1, "mobilenet": 0.05}


def _job(folder: Path, network: str, seed: int, **sections: Any) -> Path:
    """A configuration."""
    weights = _FOLDER / f"{network}_{seed}" / f"{_FACTORIES[network]}.safetensors"
    arguments = {"num_classes": 100, "in_channels": 1}
    model: dict[str, Any] = {
        "name": f"{_NETWORKS}:{_FACTORIES[network]}",
        "arguments": arguments,
    }
    if weights.exists():
        model["weights"] = str(weights.absolute())
    usual = {
        "model": model,
        "pruner": {"target": "params", "seed": seed},
        "data": {"name": "digit-pairs", "seed": seed, "batch_size": 128},
        "train": {"seed": seed, "optimizer": {"name": "SGD", "lr": 0.02, "momentum": 0.9}},
    }
    content = {
        name: {**usual.get(name, {}), **sections.get(name, {})} for name in {**usual, **sections}
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def _trained(network: str, seed: int) -> None:
    """Train a network on all classes."""
    folder = _FOLDER / f"{network}_{seed}"
    optimizer = {"name": "SGD", "lr": _RATES[network], "momentum": 0.9, "weight_decay": 5e-4}
    if not (folder / "outcome.json").exists():
        file = _job(folder, network, seed, train={"epochs": 12, "optimizer": optimizer})
        train(file, folder, _MACHINE, force=False)


def measured(network: str, count: int, seed: int) -> dict[str, Any]:
    """A row: what came of a network, a subset of so many classes and a seed."""
    _trained(network, seed)
    classes = sorted(random.Random(1000 * count + seed).sample(range(100), count))
    place = _FOLDER / f"{network}_{seed}_{count}"
    sections: dict[str, Any] = {
        "data": {"sub_classes": classes, "subset_name": f"of-{count}"},
        "train": {"epochs": 10, "patience": 3},
    }
    file = _job(place / "adapt", network, seed, **sections)
    found = adapt(file, place / "adapt", _MACHINE, False, print).outcome
    prober, _, _ = prober_of(
        job := read_job(file), subject_of(file, job), place / "adapt", _MACHINE
    )
    held = [level for level in job.adapt.searched if prober.try_level(level).holds]
    bare = _job(place / "bare", network, seed, **sections, pruner={"recover": "none"})
    without_refit = adapt(bare, place / "bare", _MACHINE, False, print).outcome
    sections["adapt"] = {"levels": [found["level"]]}
    pair = compare(
        _job(place / "compare", network, seed, **sections), place / "compare", _MACHINE, False
    ).outcome
    (row,) = pair["levels"]
    return {
        "network": network,
        "classes": count,
        "seed": seed,
        "level": found["level"],
        "best": max(held),
        "probes": len(found["probes"]),
        "epochs": sum(probe["epochs"] for probe in found["probes"]),
        "bare_level": without_refit["level"],
        "bare_epochs": sum(probe["epochs"] for probe in without_refit["probes"]),
        "unpruned": found["unpruned_test"]["top-1"],
        "test": found["test"]["top-1"],
        "with": row["with"]["test"]["top-1"],
        "without": row["without"]["test"]["top-1"],
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: a line for each row, accuracies in percent of the test images."""
    lines = [
        "| network | classes | seed | level | best of a full sweep | probes | epochs "
        "| without refit: level, epochs | unpruned | adapted | with the subset's images | without "
        "| points |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        unpruned, test, with_them, without = (
            100 * row[key] for key in ("unpruned", "test", "with", "without")
        )
        lines.append(
            f"| {row['network']} | {row['classes']} | {row['seed']} | {row['level']:g} "
            f"| {row['best']:g} | {row['probes']} | {row['epochs']} "
            f"| {row['bare_level']:g}, {row['bare_epochs']} | {unpruned:.1f} | {test:.1f} "
            f"| {with_them:.1f} | {without:.1f} | {with_them - without:+.1f} |"
        )
    points = mean(100 * (row["with"] - row["without"]) for row in rows)
    epochs, bare = (sum(row[key] for row in rows) for key in ("epochs", "bare_epochs"))
    lines += [
        "",
        f"On average {points:+.1f} points by knowing the subset. The searches trained for {epochs} "
        f"epochs in all, without a refit for {bare}.",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and with `--write` write the part of the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", default=",".join(_FACTORIES))
    parser.add_argument("--classes", default="10,20")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)  # on images this small, more threads wait for each other
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    rows = []
    for seed in map(int, asked.seeds.split(",")):
        for network in asked.networks.split(","):
            for count in map(int, asked.classes.split(",")):
                rows.append(measured(network, count, seed))
                print(json.dumps(rows[-1]), flush=True)
    (_FOLDER / "results.json").write_text(json.dumps(rows))
    print(table(rows))
    if asked.write:
        write_part("adaptation", table(rows), DOCS / "train.md")


if __name__ == "__main__":
    main()
