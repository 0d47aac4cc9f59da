"""Jobs that are killed at moments that nobody chose: no set is half, mixed or lost.

The processes are forked with prunecore loaded and run its command line, so that each moment lies in
the job and none in the imports before it.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from prunecore.cli.main import main

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

NET = """
from torch import nn


def net() -> nn.Sequential:
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(128, 5))
"""
JOB = ["prune", "nets.py:net", "--input-shape=3,8,8", "--mode=random", "--output=out"]
REFIT = ["--calibrate=images", "--recover=refit", "--recover=batch-norm"]
LEVELS = ["--level=30", "--level=50", "--level=70"]
SEEDS = {"old": "--seed=1", "new": "--seed=2"}

# What is written, over which old sets, with or without `--force`.
JOBS = {
    "a first set": (LEVELS[:1], False),
    "a set": (LEVELS[:1], True),
    "several first sets": (LEVELS, False),
    "several sets": (LEVELS, True),
    "refitted sets": ([*LEVELS[:2], *REFIT], True),
}


def start(arguments: Sequence[str]) -> int:
    """Run the command line in a process of its own."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with open("said.txt", "w") as said, redirect_stdout(said), redirect_stderr(said):
                main(list(arguments))
        except SystemExit as end:
            code = int(end.code or 0)
        finally:  # pytest of the child must not go on
            os._exit(code)
    return child


def run(arguments: Sequence[str]) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(start(arguments), 0)[1])


def sets_in(folder: Path) -> dict[str, dict[str, bytes]]:
    """The files of each set, by its name."""
    found: dict[str, dict[str, bytes]] = {}
    for file in folder.glob("[!.]*"):
        found.setdefault(file.stem, {})[file.suffix] = file.read_bytes()
    return found


def kill_many(job: str, count: int, seed: int) -> None:
    """Kill a job so many times in a folder, and look at what it and the next run leave."""
    asked, force = JOBS[job]
    arguments = [*JOB, *asked, SEEDS["new"], *["--force"] * force]
    out, before = Path("out"), Path("before")
    CliRunner().invoke(main, [*JOB, *asked, SEEDS["old"]])  # which imports all that jobs need
    old = sets_in(out)
    out.rename(before)
    begun = time.monotonic()
    assert run([*JOB, *asked, SEEDS["new"]]) == 0
    lasts = time.monotonic() - begun
    new = sets_in(out)
    assert all(old[name] != new[name] for name in new)
    drawn, killed = random.Random(seed), 0
    while killed < count:  # of a busy machine the first run tells little
        shutil.rmtree(out)
        if force:
            shutil.copytree(before, out)
        child = start(arguments)
        time.sleep(drawn.uniform(0, 1.2 * lasts))
        os.kill(child, signal.SIGKILL)
        killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        check(out, old if force else {}, new)
        code = run([*JOB, *asked, SEEDS["new"]])  # without --force: what is whole stays
        assert code == 0 or "exists" in Path("said.txt").read_text()
        assert not [file for file in out.iterdir() if file.name.startswith(".")]
        assert sets_in(out).keys() == new.keys()
        check(out, old if force else {}, new)


def check(out: Path, old: dict[str, dict[str, bytes]], new: dict[str, dict[str, bytes]]) -> None:
    """Check that each set that can be imported is the old one or the new one."""
    for name, there in sets_in(out).items():
        if ".py" in there:
            assert there in (old.get(name), new[name]), name


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NET)
    Path("images").mkdir()
    drawn = np.random.default_rng(0)
    for number in range(8):
        pixels = drawn.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"images/{number}.png")


@pytest.mark.parametrize("job", JOBS)
def test_a_killed_job_leaves_whole_sets(job: str) -> None:
    kill_many(job, 4, 0)


@pytest.mark.kill
@pytest.mark.parametrize(("job", "seed"), [*itertools.product(JOBS, range(1, 5))])
def test_a_thousand_killed_jobs_leave_whole_sets(job: str, seed: int) -> None:
    kill_many(job, 50, seed)
