"""Commands in processes of their own: several share a batch, and any may be killed at any time."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

PLAIN = """\
from torch import nn


def plain(num_classes=10):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, num_classes)
    )
"""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "prunecore", *map(str, arguments)]


def test_two_processes_come_to_what_one_does(job, folder: Path) -> None:
    (folder / "plain.py").write_text(PLAIN)
    file = job(model={"name": "plain.py:plain"})
    told = []
    for count in (1, 2):
        asked = ("--accelerator", "cpu", "--devices", count, "--strategy", "ddp", "--json")
        line = command("train", file, *asked, "--output", f"by_{count}")
        done = subprocess.run(line, capture_output=True, text=True, check=True)
        told.append(json.loads(done.stdout))
    for part in ("validation", "test"):
        assert told[1][part] == pytest.approx(told[0][part], abs=1e-4)


def test_a_run_that_is_killed_at_any_time_ends_in_the_same_result(job, folder: Path) -> None:
    file = job(train={"epochs": 40})
    subprocess.run(command("train", file, "--output", "whole"), check=True)
    draw = random.Random(0)
    for _ in range(10):
        running = subprocess.Popen(command("train", file, "--output", "part"))
        checkpoints = folder / "part/checkpoints"
        while running.poll() is None and not (checkpoints / "last.ckpt").exists():
            time.sleep(0.05)
        time.sleep(draw.uniform(0, 3))
        running.kill()
        running.wait()
    subprocess.run(command("train", file, "--output", "part"), check=True)
    first, second = (load_file(folder / name / "small.safetensors") for name in ("whole", "part"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    outcomes = [(folder / name / "outcome.json").read_text() for name in ("whole", "part")]
    assert outcomes[0] == outcomes[1]


SEARCH = {
    "model": {"arguments": {"width": 24}},
    "data": {"sub_classes": [1, 4, 7]},
    "train": {"epochs": 6, "optimizer": {"name": "SGD", "lr": 0.03, "momentum": 0.9}},
    "pruner": {"recover": "none", "mode": "random"},
    "adapt": {"finetune_epochs": 4, "lower": 30, "upper": 90, "step": 15, "tolerance": 0.4},
}


def killed_at_ten_moments(line: list[str], seconds: float) -> None:
    """Run a command ten times, killed at random moments, then to its end."""
    draw = random.Random(0)
    for _ in range(10):
        running = subprocess.Popen(line)
        time.sleep(draw.uniform(0, seconds))
        running.kill()
        running.wait()
    subprocess.run(line, check=True)


def test_a_search_that_is_killed_at_any_time_ends_in_the_same_result(job, folder: Path) -> None:
    file = job(**SEARCH)
    start = time.monotonic()
    subprocess.run(command("adapt", file, "--output", "whole"), check=True)
    killed_at_ten_moments(command("adapt", file, "--output", "part"), time.monotonic() - start)
    told = [json.loads((folder / name / "outcome.json").read_text()) for name in ("whole", "part")]
    assert told[0] == told[1]
    names = [sorted(p.name for p in (folder / n).glob("small_*")) for n in ("whole", "part")]
    assert names[0] == names[1]
    for name in names[0]:
        assert (folder / "part" / name).read_bytes() == (folder / "whole" / name).read_bytes()


def test_a_set_in_training_that_is_killed_at_any_time_ends_in_the_same_set(
    job, folder: Path
) -> None:
    asked = ("--input-shape", "1,8,8", "--level", 50, "--output", ".")
    subprocess.run(command("prune", "net.py:small", *asked), check=True)
    file = job("tune.yaml", train={"epochs": 20})
    start = time.monotonic()
    tune = command("finetune", "small_50.py", "--config", file, "--output")
    subprocess.run([*tune, "whole.py"], check=True)
    killed_at_ten_moments([*tune, "part.py"], time.monotonic() - start)
    for end in ("py", "safetensors"):
        assert (folder / f"part.{end}").read_bytes() == (folder / f"whole.{end}").read_bytes()
