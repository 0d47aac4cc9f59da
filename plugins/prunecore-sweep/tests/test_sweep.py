"""Cells run on a real Ray, survive the loss of a worker, and are never done again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pyarrow import csv, parquet
from ray.cluster_utils import Cluster

from prunecore_sweep import jobs


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A Ray whose workers stay, so that what they have imported is imported once."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    yield cluster.address
    cluster.shutdown()


def told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what depends on the clock."""
    clocked = ("seconds", "latency ms", "latency spread")
    return [{k: v for k, v in row.items() if k not in clocked} for row in rows]


def test_a_table_and_a_picture_come_of_it_and_nothing_is_done_again(
    job: Any, run: Any, folder: Path, address: str
) -> None:
    file = job(
        sweep={
            "levels": [40, 99.9],
            "modes": ["random-weighted", "magnitude"],
            "latency": "eager",
        },
        data={"sub_classes": [1, 4, 7], "subset_name": "some"},
    )
    first = run("sweep", file, "--ray", address, "--json", exit_code=1)
    rows = json.loads(first.stdout)
    assert [row["status"] for row in rows] == ["done", "done", "failed", "failed"]
    assert all("cannot be reached" in row["error"] for row in rows[2:])
    assert all(row["latency ms"] > 0 for row in rows[:2])
    assert rows[0]["achieved"] == pytest.approx(40, abs=2)
    assert 0 <= rows[0]["test top-1"] <= 1
    table = csv.read_csv(folder / "sweep/sweep.csv")
    assert table.num_rows == 4
    same = parquet.read_table(folder / "sweep/sweep.parquet").to_pylist()
    assert [{k: v for k, v in row.items() if v is not None} for row in same] == [
        {k: v for k, v in row.items() if v is not None} for row in rows
    ]
    picture = (folder / "sweep/sweep.svg").read_text()
    assert "mean over seeds" in picture
    assert "Latency, ms" in picture
    assert (folder / "sweep" / rows[0]["file"]).is_file()
    again = run("sweep", file, "--ray", address, exit_code=1)  # those that failed are tried again
    assert again.stdout.splitlines()[0] == "4 cells, 2 of them failed, 2 of them done before."
    assert [line.split(":")[0] for line in again.stderr.splitlines()[:2]] == ["3 of 4", "4 of 4"]


@pytest.mark.slow
def test_a_lost_worker_s_cells_are_run_by_another(job: Any, folder: Path) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()
        file = job(sweep={"levels": [20, 30, 40, 50], "retries": 3})
        lost: list[str] = []

        def tell(done: int, total: int, row: dict[str, Any]) -> None:
            if not lost:
                lost.append(row["cell"])
                cluster.remove_node(nodes[0], allow_graceful=False)

        swept = jobs.sweep(file, None, cluster.address, False, tell)
    finally:
        cluster.shutdown()
    assert lost
    assert [row["status"] for row in swept.rows] == ["done"] * 4
    assert [row["level"] for row in swept.rows] == [20, 30, 40, 50]


@pytest.mark.slow
def test_a_sweep_that_is_killed_at_any_time_ends_in_the_same_table(
    job: Any, folder: Path, address: str
) -> None:
    file = job(sweep={"levels": [20, 40, 60, 80]})
    start = time.monotonic()
    whole = jobs.sweep(file, folder / "whole", address, False, lambda *_: None)
    seconds = time.monotonic() - start
    command = [sys.executable, "-m", "prunecore", "sweep", str(file), "--output", "part"]
    command += ["--ray", address]
    draw = random.Random(0)
    for _ in range(10):
        process = subprocess.Popen(command, cwd=folder, start_new_session=True)
        time.sleep(draw.uniform(0, seconds))
        with suppress(ProcessLookupError):  # it has ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = len(list((folder / "part/cells").glob("*.json")))
    seen: list[str] = []
    resumed = jobs.sweep(
        file, folder / "part", address, False, lambda done, total, row: seen.append(row["cell"])
    )
    assert resumed.resumed == done
    assert len(seen) == 4 - done
    assert told(resumed.rows) == told(whole.rows)
    for row in whole.rows:
        assert (folder / "part" / row["file"]).read_bytes() == (
            folder / "whole" / row["file"]
        ).read_bytes()


def test_a_cell_that_no_node_can_run_is_refused(job: Any, run: Any) -> None:
    error = run("sweep", job(sweep={"gpus": 64}), exit_code=2).stderr
    assert "no node has more than" in error


def test_what_a_network_raises_ends_its_cell_alone(
    job: Any, run: Any, folder: Path, address: str
) -> None:
    (folder / "broken.py").write_text(
        "import os\ndef broken(): raise RuntimeError('no such thing')\ndef ended(): os._exit(3)\n"
    )
    networks = ["broken.py:broken", "broken.py:ended", "net.py:small"]
    file = job(sweep={"networks": networks, "levels": [50], "retries": 0})
    rows = json.loads(run("sweep", file, "--ray", address, "--json", exit_code=1).stdout)
    assert [row["status"] for row in rows] == ["failed", "failed", "done"]
    assert "RuntimeError: no such thing. It was raised at" in rows[0]["error"]
    assert rows[1]["error"].startswith("Its process was lost: The worker died unexpectedly")
    assert rows[2]["mode"] == "surgeon"  # as where no mode is asked for, and there are images


def test_a_folder_that_cannot_be_one_is_told_before_any_work(job: Any, run: Any) -> None:
    error = run("sweep", job(), "--output", "net.py", exit_code=2).stderr
    assert error == "Error: Nothing can be written to net.py.\nGive another --output.\n"
