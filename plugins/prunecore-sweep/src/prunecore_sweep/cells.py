"""One cell of a sweep: a network pruned, refitted, trained and measured, and what came of it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from prunecore.errors import PrunecoreError, one_line
from prunecore.files import storage
from prunecore.files.paths import is_file
from prunecore.latency.timing import take_turns, timing_of
from prunecore.planning.stopwatch import running
from prunecore.plugins import loading
from prunecore_sweep.config import Cell
from prunecore_train.config import Job, plain_name
from prunecore_train.jobs.networks import classes_of
from prunecore_train.jobs.outcome import asked_of, code_of
from prunecore_train.jobs.probes import Prober, asked_of_pruning
from prunecore_train.jobs.sets import read_set
from prunecore_train.jobs.subjects import Subject, finetuned, subject_of
from prunecore_train.training.network import Network
from prunecore_train.training.trainer import Machine, judge

Row = dict[str, Any]

_SECONDS = 2.0  # that the latency of a network is measured for


def fingerprint_of(cell: Cell, config: dict[str, Any]) -> str:
    """A hash of all that a cell's row depends on: of files, what is in them.

    Args:
        cell: the cell.
        config: further values that count.
    """
    model, data = cell.job.config.model, cell.job.data
    weights = model.weights if model.weights and is_file(model.weights) else None
    given = replace(data, name=None, root=None, folder=None, workers=0)
    adapt = cell.job.adapt
    told = [
        [version(one) for one in ("prunecore", "prunecore-train", "prunecore-sweep")],
        weights and storage.hash_of(weights),
        [[name and plain_name(name), code_of(name)] for name in (model.name, data.name)],
        asdict(replace(model, name=None, weights=None)),
        asdict(given),
        str(data.folder or data.root or ""),
        asked_of(cell.job.train),
        [adapt.finetune_epochs, adapt.images, adapt.shrink_head],
        asked_of_pruning(cell.job),
        [cell.level, cell.mode, cell.seed],
        config,
    ]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def run_cell(cell: Cell, folder: Path, file: Path, trains: bool, latency: str | None) -> Row:
    """Do all that a cell asks for; what is wrong with it is told in its row.

    Args:
        cell: the cell.
        folder: of the whole sweep.
        file: the configuration.
        trains: whether the network is trained once it is refitted.
        latency: what measures its latency; `None` to measure none.

    Returns:
        A value for each column of the table.
    """
    start = time.perf_counter()
    try:
        row = _row(cell, folder, file, trains, latency)
    except PrunecoreError as error:
        row = failed(cell, sentences(error))
    return {**row, "seconds": round(time.perf_counter() - start, 3)}


def finetune_for(cell: Cell, folder: Path, file: Path) -> None:
    """Train the network of some cells on their subset; each of them then reads it.

    Raises:
        PrunecoreError: with what is wrong.
    """
    subject = subject_of(file, cell.job)
    if knows_subset(subject, cell.job):
        finetuned(subject, cell.job, folder / cell.tuned, Machine())


def knows_subset(subject: Subject, job: Job) -> bool:
    """True if a network is trained on the subset before it is pruned."""
    data = subject.data
    return job.adapt.finetune_epochs > 0 and len(data.kept) < len(data.source.classes)


def sentences(error: PrunecoreError) -> str:
    """What is wrong, and what to do, on one line of a table."""
    lines = (line if line.endswith(".") else f"{line}." for line in str(error).splitlines())
    return one_line(" ".join(lines))


def failed(cell: Cell, error: str) -> Row:
    """The row of a cell that came to nothing."""
    return {**_named(cell), "status": "failed", "error": error}


def _named(cell: Cell) -> Row:
    return {
        "cell": cell.name,
        "network": cell.network,
        "subset": cell.subset,
        "level": cell.level,
        "mode": cell.mode,
        "seed": cell.seed,
    }


def _row(cell: Cell, folder: Path, file: Path, trains: bool, latency: str | None) -> Row:
    job, machine = cell.job, Machine()
    subject = subject_of(file, job)
    if knows_subset(subject, job):
        finetuned(subject, job, folder / cell.tuned, machine)
    prober = Prober(subject, job, machine, folder / "cells" / cell.name, trains=trains)
    probe = prober.try_level(cell.level)
    if probe.file is None:
        return failed(cell, str(probe.reason))
    path = prober.folder / probe.file
    written = read_set(path)
    test = judge(
        Network(written.network, job.train, classes_of(subject.data)), subject.data, machine
    )
    row: Row = {
        **_named(cell),
        "status": "done",
        "error": None,
        "mode": written.report["mode"],
        "target": job.config.pruner.target,
        "achieved": probe.achieved,
        "params": probe.params,
        "macs": probe.macs,
        "epochs": probe.epochs,
        "file": str(path.relative_to(folder)),
    }
    for stage, judged in (("refitted", probe.refitted), ("trained", probe.trained), ("test", test)):
        for metric, value in (judged or {}).items():
            row[f"{stage} {metric}"] = value
    if latency is not None:
        row |= _latency_of(written.network, subject.images[:1], latency)
    return row


def _latency_of(network: nn.Module, image: Tensor, backend: str) -> Row:
    """How long one image takes, on the machine that the cell ran on."""
    make: Callable[..., Any] = loading.load().latency_backend(backend)
    with running():
        (turns,) = take_turns([make(network.cpu().eval(), [image], {})], _SECONDS)
    timing = timing_of(turns)
    return {"latency ms": timing.ms, "latency spread": timing.spread}
