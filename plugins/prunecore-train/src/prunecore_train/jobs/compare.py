"""The job `compare`: pruned with a subset's images and without them, at equal size."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from prunecore import PrunecoreError, UsageError
from prunecore.escaping import shown
from prunecore_train.config import read_job
from prunecore_train.images.data import Data
from prunecore_train.jobs.adapt import finetuned, subject_of
from prunecore_train.jobs.networks import classes_of
from prunecore_train.jobs.outcome import (
    OUTCOME,
    Done,
    as_json,
    asked_of,
    fingerprint_of,
    finished,
    is_first_process,
    write,
)
from prunecore_train.jobs.probes import Prober, asked_of_pruning
from prunecore_train.jobs.sets import read_set
from prunecore_train.training.network import VALIDATION, Network
from prunecore_train.training.trainer import Machine, judge

_TUNED = "finetuned"
WAYS = ("without", "with")


def compare(file: Path, output: Path | None, machine: Machine, force: bool) -> Done:
    """Prune a network once without and once with what a subset's images say of it.

    Without them it is pruned as it is given, scored and refitted by images of all classes; with
    them it is trained on the subset first, and scored and refitted by that's. Then both are trained
    on the subset, taught by the unpruned network that was trained on it, so that both have seen it
    for as many epochs.

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
    given = copy.deepcopy(subject.network)
    unpruned = finetuned(subject, job, folder / _TUNED, machine)
    longer = replace(job.train, epochs=job.train.epochs + job.adapt.finetune_epochs)
    of_all = Data(replace(job.data, sub_classes=(), subset_name=None)).images(job.adapt.images)
    with_them = Prober(
        subject.network, subject.images, job, data, machine, folder / WAYS[1], subject.name
    )
    without = replace(
        with_them,
        network=given,
        images=of_all,
        job=replace(job, train=longer),
        folder=folder / WAYS[0],
        teacher=subject.network,
    )
    network = Network(subject.network, job.train, classes_of(data))
    rows = [_compared({"without": without, "with": with_them}, level) for level in job.adapt.levels]
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


def _compared(probers: Mapping[str, Prober], level: float) -> dict[str, Any]:
    """What came of a level both ways."""
    row: dict[str, Any] = {"level": level}
    for way, prober in probers.items():
        probe = prober.try_level(level)
        if probe.file is None:
            raise PrunecoreError(
                f"Level {level:g} cannot be reached {way} the subset's images.\n"
                "Give adapt: levels that can be, or limits that let more go."
            )
        smaller = read_set(prober.folder / probe.file).network
        network = Network(smaller, prober.job.train, classes_of(prober.data))
        row[way] = {**asdict(probe), "test": judge(network, prober.data, prober.machine)}
    return row
