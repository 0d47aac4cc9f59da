"""The job `compare`: pruned with a subset's images and without them, at equal size."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from prunecore import PrunecoreError, UsageError
from prunecore.escaping import shown
from prunecore_train.config import Job, read_job
from prunecore_train.images.data import Data
from prunecore_train.jobs.networks import classes_of
from prunecore_train.jobs.outcome import (
    OUTCOME,
    Done,
    as_json,
    asked_of,
    fingerprint_of,
    finished,
    is_first_process,
)
from prunecore_train.jobs.probes import Prober, asked_of_pruning
from prunecore_train.jobs.sets import read_set
from prunecore_train.jobs.subjects import Subject, finetuned, subject_of
from prunecore_train.training.network import VALIDATION, Network
from prunecore_train.training.trainer import Machine, judge
from prunecore_train.writing import write

_TUNED = "finetuned"
WAYS = ("without", "with")


def compare(file: Path, output: Path | None, machine: Machine, force: bool) -> Done:
    """Prune a network for a subset of its classes, and as if the subset were not known.

    For the subset it is trained on that first, scored and refitted by its images, and trained on
    them. Without, the same is done with images of all classes, but for the training before: the
    network as it is given knows them. Both are judged by the subset's test part, as Rajagopal and
    Bouganis do in "Now that I can see, I can improve", 2020, arXiv 2006.08554.

    Args:
        file: the configuration.
        output: the folder of what is written, in place of the configuration's.
        machine: what is trained on.
        force: whether what is there of another job is removed.

    Raises:
        PrunecoreError: with what is wrong, or a level cannot be reached.
    """
    job = read_job(file)
    subject = subject_of(file, job)
    data = subject.data
    if len(data.kept) == len(data.source.classes):
        raise UsageError(
            f"{shown(file)} keeps all classes, and compare asks what a subset of them brings.\n"
            "Give data: sub_classes or subset_name."
        )
    folder = output or job.adapt.output or Path(f"{subject.name}_compared")
    asked = [asdict(replace(job.adapt, output=None)), asked_of_pruning(job)]
    mark = fingerprint_of("compare", [subject.network], data, job.train, asked)
    if force:
        for name in (*WAYS, _TUNED):
            shutil.rmtree(folder / name, ignore_errors=True)
    if (done := finished(folder, mark, force)) is not None:
        return Done(done)
    of_all = _without_subset(file, job)
    unpruned = finetuned(subject, job, folder / _TUNED, machine)
    ways = {
        "without": (Prober(of_all, job, machine, folder / "without"), Data(job.data)),
        "with": (Prober(subject, job, machine, folder / "with"), data),
    }
    network = Network(subject.network, job.train, classes_of(data))
    rows = [_compared(ways, level) for level in job.adapt.levels]
    outcome = {
        "command": "compare",
        "schema": 1,
        "fingerprint": mark,
        "model": subject.name,
        "data": data.record(),
        "metric": network.monitored.removeprefix(VALIDATION),
        "unpruned": unpruned,
        "unpruned_test": judge(network, data, machine),
        "target": job.config.pruner.target,
        "levels": rows,
        "train": asked_of(job.train),
        "resumed": False,
    }
    if is_first_process():
        write(folder / OUTCOME, as_json(outcome))
    return Done(outcome, (folder / OUTCOME,))


def _without_subset(file: Path, job: Job) -> Subject:
    """The network as it is given, and images of all classes."""
    data = replace(job.data, sub_classes=(), subset_name=None)
    return subject_of(file, replace(job, data=data, adapt=replace(job.adapt, shrink_head=False)))


def _compared(ways: Mapping[str, tuple[Prober, Data]], level: float) -> dict[str, Any]:
    """What came of a level each way; the data has the test part."""
    row: dict[str, Any] = {"level": level}
    for way, (prober, data) in ways.items():
        probe = prober.try_level(level)
        if probe.file is None:
            raise PrunecoreError(
                f"{way.capitalize()} the subset's images: {probe.reason}\n"
                "Give adapt: levels that can be reached, or limits that let more go."
            )
        smaller = read_set(prober.folder / probe.file).network
        network = Network(smaller, prober.job.train, classes_of(data))
        row[way] = {**asdict(probe), "test": judge(network, data, prober.machine)}
    return row
