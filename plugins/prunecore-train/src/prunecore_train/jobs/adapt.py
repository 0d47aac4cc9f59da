"""The job `adapt`: the highest level that a subset of the classes allows, and its network."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from prunecore.errors import PrunecoreError, UsageError
from prunecore.escaping import shown
from prunecore.files import storage
from prunecore_train.config import Job, read_job
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
from prunecore_train.jobs.picture import draw_probes
from prunecore_train.jobs.probes import Probe, Prober, asked_of_pruning
from prunecore_train.jobs.search import highest
from prunecore_train.jobs.sets import read_set
from prunecore_train.jobs.subjects import Subject, finetuned, subject_of
from prunecore_train.training.network import VALIDATION, Network
from prunecore_train.training.trainer import Machine, judge
from prunecore_train.writing import resumable, write

HISTORY = "history.json"
_PROBES = "probes"
_TUNED = "finetuned"

Tell = Callable[[Probe], object]


def adapt(file: Path, output: Path | None, machine: Machine, force: bool, tell: Tell) -> Done:
    """Find the highest level at which a network validates as well as the unpruned one.

    Args:
        file: the configuration.
        output: the folder of what is written, in place of the configuration's.
        machine: what is trained on.
        force: whether what is there of another job is removed.
        tell: called with each level that was tried.

    Raises:
        PrunecoreError: with what is wrong, or no level holds.
    """
    job = read_job(file)
    subject = subject_of(file, job)
    folder = output or job.adapt.output or Path(f"{subject.name}_adapted")
    asked = [asdict(replace(job.adapt, output=None)), asked_of_pruning(job)]
    mark = fingerprint_of("adapt", [subject.network], subject.data, job.train, asked)
    if force:
        for name in (_PROBES, _TUNED):
            shutil.rmtree(folder / name, ignore_errors=True)
    if (done := finished(folder, mark, force)) is not None:
        return Done(done)
    prober, network, unpruned = prober_of(job, subject, folder, machine)
    probes: list[Probe] = []

    def holds(level: float) -> bool:
        probes.append(prober.try_level(level))
        tell(probes[-1])
        return bool(probes[-1].holds)

    level = highest(job.adapt.searched, holds)
    history = {
        "metric": network.monitored.removeprefix(VALIDATION),
        "unpruned": unpruned,
        "asked": prober.until,
        "probes": [asdict(probe) for probe in probes],
    }
    if is_first_process():
        write(folder / HISTORY, as_json(history))
        draw_probes(history, folder / "accuracy.svg")
    if level is None:
        raise _none_holds(job, probes, network, prober.until, folder)
    winner = next(probe for probe in probes if probe.level == level)
    outcome = {
        "command": "adapt",
        "schema": 1,
        "fingerprint": mark,
        "model": subject.name,
        "data": subject.data.record(),
        **history,
        "level": winner.level,
        "target": job.config.pruner.target,
        "validation": winner.validation,
        "unpruned_test": judge(network, subject.data, machine),
        "train": asked_of(job.train),
        "resumed": False,
    }
    return _concluded(prober, winner, folder, outcome)


def _concluded(prober: Prober, winner: Probe, folder: Path, outcome: dict[str, Any]) -> Done:
    """Judge the network of the highest level that holds, and write its set and the outcome."""
    written = read_set(prober.folder / str(winner.file))
    smaller = Network(written.network, prober.job.train, classes_of(prober.subject.data))
    outcome["test"] = judge(smaller, prober.subject.data, prober.machine)
    path = storage.set_path(folder, prober.subject.name, winner.level)
    if is_first_process():
        parts = [{name: written.weights[name] for name in names} for names in written.shards]
        with resumable():
            storage.save_set(path, written.source, parts, written.report, force=True)
        write(folder / OUTCOME, as_json(outcome))
    return Done(outcome, (path, folder / OUTCOME))


def prober_of(
    job: Job, subject: Subject, folder: Path, machine: Machine
) -> tuple[Prober, Network, dict[str, float]]:
    """Train the unpruned network on the subset, and make what tries its levels.

    Returns:
        The prober, the unpruned network, and what the validation part says of that.

    Raises:
        UsageError: the tolerance takes any network.
    """
    network = Network(subject.network, job.train, classes_of(subject.data))
    if network.mode == "max" and job.adapt.tolerance >= 1:
        raise UsageError(
            f"adapt: a tolerance of {job.adapt.tolerance:g} takes any network, as accuracies are "
            "at most 1.\nGive such as 0.01, which is a point."
        )
    unpruned = finetuned(subject, job, folder / _TUNED, machine)
    least = _least(network, unpruned, job.adapt.tolerance)
    return Prober(subject, job, machine, folder / _PROBES, least), network, unpruned


def _least(network: Network, unpruned: dict[str, float], tolerance: float) -> float:
    """What a smaller network has to come to."""
    value = unpruned[network.monitored.removeprefix(VALIDATION)]
    return value - tolerance if network.mode == "max" else value + tolerance


def _none_holds(
    job: Job, probes: list[Probe], network: Network, asked: float | None, folder: Path
) -> PrunecoreError:
    name = network.monitored.removeprefix(VALIDATION)
    last = probes[-1]
    if last.validation is None:
        return PrunecoreError(
            f"{last.reason}\nGive limits that let more go, or adapt: a smaller lower."
        )
    return PrunecoreError(
        f"No level from {job.adapt.lower:g} to {job.adapt.upper:g} keeps the {name} at "
        f"{asked:.4f}; level {last.level:g} came to {last.validation[name]:.4f}. What was tried is "
        f"in {shown(folder)}.\n"
        "Give adapt: a tolerance such as 0.01, a smaller lower, or train: more epochs."
    )
