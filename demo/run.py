"""Train a ResNet20 on handwritten digits, prune and refit it, use a file, adapt it to a subset."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from images import digits
from resnet20 import resnet20
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor, nn

import prunecore

FOLDER = Path("build/demo")
LEVELS = (30, 50, 70)
EPOCHS = 20


def train(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Train with a strong weight decay, which leaves channels that can go."""
    batches = -(-len(images) // 64)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-2
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, EPOCHS * batches)
    for _ in range(EPOCHS):
        for batch in torch.split(torch.randperm(len(images)), 64):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
            optimizer.step()
            schedule.step()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of the images that the network gets right."""
    right = model.eval()(images).argmax(1) == labels
    return float(right.double().mean())


def timed_prune(
    model: nn.Module, level: int, **options: Any
) -> tuple[prunecore.PrunedModel, float]:
    """Prune, verify, and tell how many seconds that took."""
    start = time.perf_counter()
    small = prunecore.prune(model, level=level, **options)
    return small, time.perf_counter() - start


def short(number: int) -> str:
    """Write a count with three or four digits: 271.1k."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.{1 if number >= 100 * size else 2}f}{unit}"
    return str(number)


def row(name: str, report: dict[str, Any], right: list[str], seconds: float) -> list[str]:
    """One line of the table; the accuracies are before, right after, and after the refit."""
    sizes = [
        f"{short(report['before'][unit])} -> {short(report['after'][unit])}"
        for unit in ("params", "macs")
    ]
    level = report["level"]
    return [
        name,
        f"{level['asked']:g} %",
        f"{level['achieved']:.2f} %",
        *sizes,
        *right,
        f"{seconds:.2f}",
    ]


def prune_all() -> tuple[list[list[str]], dict[int, float]]:
    """Prune both networks and write the small ones; the table's rows, the accuracy by level."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # on images this small, more threads wait for each other
    model = resnet20()
    train_images, test_images, train_labels, test_labels = digits()
    print(f"Training ResNet20 on {len(train_images)} digits ...")
    train(model, train_images, train_labels)
    before = accuracy(model, test_images, test_labels)
    FOLDER.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), FOLDER / "resnet20.safetensors")
    save_file({"images": test_images, "labels": test_labels}, FOLDER / "digits_test.safetensors")

    rows, after = [], {}
    for level in LEVELS:
        options = {"target": "macs", "input_shape": (1, 8, 8), "name": "resnet20"}
        cut, _ = timed_prune(model, level, **options, calibration=train_images, recover=())
        small, seconds = timed_prune(model, level, **options, calibration=train_images)
        small.save(FOLDER / f"resnet20_{level}.py", force=True)
        after[level] = accuracy(small.model, test_images, test_labels)
        right = (before, accuracy(cut.model, test_images, test_labels), after[level])
        shown = [f"{100 * value:.2f} %" for value in right]
        rows.append(row("resnet20", small.report, shown, seconds))

    model = torchvision.models.resnet50()
    small, seconds = timed_prune(model, 50, target="macs", input_shape=(3, 224, 224))
    small.save(FOLDER / "resnet50_50.py", force=True)
    rows.append(row("resnet50, untrained", small.report, ["-", "-", "-"], seconds))
    return rows, after


def main() -> None:
    """Print one table, then run a written file where prunecore cannot be imported."""
    rows, after = prune_all()
    table = Table(box=SIMPLE, pad_edge=False)
    headers = "Network|Asked|Achieved|Parameters|MACs|Accuracy|Cut|Refitted|Seconds"
    for header in headers.split("|"):
        table.add_column(header, no_wrap=True)
    for cells in rows:
        table.add_row(*cells)
    Console(width=120).print(table)
    print(f"The networks and their weights are in {FOLDER}.")

    sys.stdout.flush()
    script = Path(__file__).with_name("without_prunecore.py")
    command = [sys.executable, str(script), str(FOLDER)]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    alone = float(result.stdout.splitlines()[-1])
    print(f"{FOLDER}/resnet20_50.py in a process without prunecore: {100 * alone:.2f} % right.")
    if alone != after[50]:
        sys.exit(f"In this process it was {100 * after[50]:.2f} %.")
    print("That equals the accuracy in the table.")

    print("The same network for images of the digits 1, 4 and 7 alone:", flush=True)
    job = Path(__file__).with_name("adapt.yaml")
    adapt = [sys.executable, "-m", "prunecore", "adapt", str(job), f"--output={FOLDER}/adapted"]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # as above
    subprocess.run([*adapt, "--force"], check=True, env=one_thread)


if __name__ == "__main__":
    main()
