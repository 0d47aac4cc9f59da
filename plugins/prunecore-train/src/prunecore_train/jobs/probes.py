"""One level tried: pruned, refitted, trained where that is needed, and kept on the disk."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import prunecore
from prunecore import LevelError
from prunecore.escaping import shown
from prunecore.files import storage
from prunecore_train.config import Job
from prunecore_train.jobs.heads import with_classes
from prunecore_train.jobs.networks import classes_of, in_training
from prunecore_train.jobs.outcome import (
    CHECKPOINTS,
    as_json,
    fingerprint_of,
    is_first_process,
    read_marked,
)
from prunecore_train.jobs.sets import TRAINED, WrittenSet, read_set, write_trained
from prunecore_train.jobs.subjects import Subject
from prunecore_train.training.network import VALIDATION, Network
from prunecore_train.training.trainer import Machine, during, fit, is_as_good, judge
from prunecore_train.writing import resumable, write

_OF_PRUNE = (
    "project_dir",
    "model_path",
    "subset_name",
    "pruning_perc",
    "to",
    "count",
    "shard_size",
)


@dataclass(frozen=True)
class Probe:
    """What came of a level.

    Attributes:
        level: that was asked for, in percent.
        achieved: that was reached; `None` where it cannot be.
        params: how many parameters are left.
        macs: likewise, multiply-accumulates.
        refitted: what the validation part says before training.
        trained: and after it; `None` where there was none, or it brought nothing.
        epochs: how many were trained.
        holds: whether the level keeps what was asked for.
        file: the written network's, in the folder of probes.
        reason: why it cannot be reached.
    """

    level: float
    achieved: float | None = None
    params: int | None = None
    macs: int | None = None
    refitted: Mapping[str, float] | None = None
    trained: Mapping[str, float] | None = None
    epochs: int = 0
    holds: bool | None = None
    file: str | None = None
    reason: str | None = None

    @property
    def validation(self) -> Mapping[str, float] | None:
        """What the validation part says of it as it was left."""
        return self.trained or self.refitted


@dataclass(frozen=True)
class Prober:
    """Tries levels of a network.

    Attributes:
        subject: the unpruned network, which teaches the smaller ones as well, and its images.
        job: what was asked for.
        machine: what they are trained on.
        folder: where all that is tried is kept.
        until: what the validation part has to say; `None` to train for the whole budget.
        trains: whether what does not hold is trained.
    """

    subject: Subject
    job: Job
    machine: Machine
    folder: Path
    until: float | None = None
    trains: bool = True

    def try_level(self, level: float) -> Probe:
        """Prune, refit, and train where what is left does not hold.

        A level that was tried before with the same inputs is read; one that was being trained is
        trained on.

        Raises:
            PrunecoreError: with what is wrong.
        """
        subject = self.subject
        path = storage.set_path(self.folder, subject.name, level)
        record = path.with_name(f"{path.stem}_probe.json")
        mark = self._fingerprint(level)
        probe = _read(record, mark) or Probe(level)
        if probe.holds is not None:
            return probe
        written = self._refitted(path, level, mark)
        if isinstance(written, LevelError):
            return _kept(
                record, mark, replace(probe, holds=False, reason=str(written).splitlines()[0])
            )
        report = written.report
        teacher = copy.deepcopy(subject.network)
        network = in_training(written, teacher, self.job.train, classes_of(subject.data))
        if probe.refitted is None:
            judged = judge(network, subject.data, self.machine, "val")
            probe = Probe(
                level,
                report["level"]["achieved"],
                report["after"]["params"],
                report["after"]["macs"],
                judged,
                file=path.name,
            )
            holds = self._holds(network, judged)
            is_done = holds or not self.trains
            probe = _kept(record, mark, replace(probe, holds=holds if is_done else None))
            if is_done:
                return probe
        return _kept(record, mark, self._trained(probe, path, written, network, mark))

    def _refitted(self, path: Path, level: float, mark: str) -> WrittenSet | LevelError:
        """The set of a level, pruned now where there is none as yet."""
        if storage.read_fingerprint(path) == mark:
            return read_set(path)
        subject, pruner = self.subject, self.job.config.pruner
        try:
            small = prunecore.prune(
                subject.network,
                level=level,
                input_shape=tuple(subject.images.shape[1:]),
                drop=pruner.drop,
                name=subject.name,
                calibration=subject.images,
                strict=pruner.strict,
                **pruner.options,
            )
        except LevelError as error:
            return error
        small.report["fingerprint"] = mark
        source = with_classes(small.source, subject.data)
        if is_first_process():
            with resumable():
                replace(small, source=source).save(path, force=True)
        before = {name: tensor.clone() for name, tensor in small.weights.items()}
        return WrittenSet(path, source, small.report, before, small.model)

    def _trained(
        self, probe: Probe, path: Path, written: WrittenSet, network: Network, mark: str
    ) -> Probe:
        """A probe whose network has been trained, and is written."""
        folder = self.folder / f"{path.stem}_{CHECKPOINTS}"
        done = next((s for s in written.report["recovered"] if s["step"] == TRAINED), None)
        is_better = done is not None
        if done is None:
            with during(f"Training at level {probe.level:g}, of {shown(path)}"):
                trained = fit(network, self.subject.data, folder, mark, self.machine, self.until)
            done = {
                "data": self.subject.data.record(),
                "epochs": len(trained.history),
                "best_epoch": trained.epoch,
                "distilled": self.job.train.distillation is not None,
                "validation": trained.validation,
            }
            is_better = self._is_better(network, done["validation"], probe.refitted or {})
            if is_better and is_first_process():
                write_trained(written, path, done, mark, True)
        shutil.rmtree(folder, ignore_errors=True)  # the set holds what was better
        if not is_better:
            return replace(probe, epochs=done["epochs"], holds=False)
        holds = self._holds(network, done["validation"])
        return replace(probe, trained=done["validation"], epochs=done["epochs"], holds=holds)

    def _is_better(
        self, network: Network, judged: Mapping[str, float], before: Mapping[str, float]
    ) -> bool:
        """True if training has brought something; else the refitted weights stay."""
        name = network.monitored.removeprefix(VALIDATION)
        return not is_as_good(network, before[name], judged[name])

    def _holds(self, network: Network, judged: Mapping[str, float]) -> bool:
        value = judged[network.monitored.removeprefix(VALIDATION)]
        return self.until is not None and is_as_good(network, value, self.until)

    def _fingerprint(self, level: float) -> str:
        subject, job = self.subject, self.job
        asked = [level, self.until, self.trains, len(subject.images), asked_of_pruning(job)]
        return fingerprint_of("probe", [subject.network], subject.data, job.train, asked)


def asked_of_pruning(job: Job) -> dict[str, Any]:
    """What is asked of pruning, but for where the files go."""
    return {k: v for k, v in asdict(job.config.pruner).items() if k not in _OF_PRUNE}


def _read(record: Path, mark: str) -> Probe | None:
    """What is known of a level that was tried with the same inputs."""
    found = read_marked(record, mark)
    try:
        return None if found is None else Probe(**found["probe"])
    except (TypeError, KeyError):  # one that others have written
        return None


def _kept(record: Path, mark: str, probe: Probe) -> Probe:
    """A probe that was written down."""
    if is_first_process():
        content = {"fingerprint": mark, "probe": asdict(probe)}
        write(record, as_json(content))
    return probe
