"""The jobs that train and judge one network: `train`, `finetune` and `evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save

from prunecore.errors import UsageError
from prunecore.escaping import shown
from prunecore.files import models, storage
from prunecore.files.paths import is_there
from prunecore_train.config import read_job
from prunecore_train.images.data import Data
from prunecore_train.jobs.networks import (
    classes_of,
    data_for,
    in_training,
    network_of,
    plain_weights,
)
from prunecore_train.jobs.outcome import (
    CHECKPOINTS,
    OUTCOME,
    Done,
    as_json,
    asked_of,
    fingerprint_of,
    finished,
    is_first_process,
)
from prunecore_train.jobs.sets import check_original, read_set, write_trained
from prunecore_train.training.distillation import Student
from prunecore_train.training.network import Network
from prunecore_train.training.trainer import Machine, Trained, fit, judge
from prunecore_train.writing import write


def train(file: Path, output: Path | None, machine: Machine, force: bool) -> Done:
    """Train the network of a configuration, and write its weights and the outcome.

    Args:
        file: the configuration.
        output: the folder of what is written, in place of the configuration's.
        machine: what it is trained on.
        force: whether what is there of another job is removed.

    Raises:
        PrunecoreError: with what is wrong.
    """
    job = read_job(file)
    config, train_config = job.config, job.train
    if config.model.name is None:
        raise UsageError(f"{shown(file)} names no model.\nGive model: {{name: resnet18}}.")
    name = models.factory_name(config.model.name)
    folder = output or train_config.output or Path(f"{name}_trained")
    model = network_of(config.model, train_config.seed)
    data = data_for(model, job, file)
    mark = fingerprint_of("train", [model], data, train_config)
    if (done := finished(folder, mark, force)) is not None:
        return Done(done)
    network = Network(model, train_config, classes_of(data))
    trained = fit(network, data, folder / CHECKPOINTS, mark, machine)
    outcome = {
        "command": "train",
        "model": name,
        "weights": f"{name}.safetensors",
        **_told(trained, network, data, mark),
        "test": judge(network, data, machine),
    }
    written = folder / f"{name}.safetensors", folder / OUTCOME
    if is_first_process():
        write(written[0], save(plain_weights(model)))
        write(written[1], as_json(outcome))
    return Done(outcome, written)


def finetune(
    file: Path, config_file: Path, output: Path | None, machine: Machine, force: bool
) -> Done:
    """Train a written network, and write it as a set again.

    Args:
        file: of the set.
        config_file: the configuration; the network that it names is the original.
        output: of the new set.
        machine: what it is trained on.
        force: whether a set that is there is replaced, and what is there of another job removed.

    Raises:
        PrunecoreError: with what is wrong.
    """
    job = read_job(config_file)
    config, train_config = job.config, job.train
    path = output or file.with_name(f"{file.stem}_trained.py")
    written = read_set(file)
    original = None
    if config.model.name is not None and train_config.distillation is not None:
        original = network_of(config.model, config.pruner.seed)
        check_original(written, original)
    data = data_for(written.network, job, config_file)
    networks = [written.network, *([original] if original else [])]
    mark = fingerprint_of("finetune", networks, data, train_config)
    folder = path.with_name(f"{path.stem}_training")
    is_ours = storage.read_fingerprint(path) == mark
    if is_there(path) and not (force or is_ours):
        raise UsageError(
            f"{shown(path)} exists, of another network, other data, another training or another "
            "version.\nGive another --output, or replace it with --force."
        )
    storage.check_target(path, force or is_ours)
    if (done := finished(folder, mark, force)) is not None and is_ours:
        return Done(done)
    network = in_training(written, original, train_config, classes_of(data))
    trained = fit(network, data, folder / CHECKPOINTS, mark, machine)
    outcome = {
        "command": "finetune",
        "model": written.report["model"],
        "distilled": isinstance(network, Student),
        **_told(trained, network, data, mark),
        "test": judge(network, data, machine),
    }
    if is_first_process():
        kept = ("data", "epochs", "best_epoch", "distilled", "validation")
        write_trained(written, path, {key: outcome[key] for key in kept}, mark, force or is_ours)
        write(folder / OUTCOME, as_json(outcome))
    return Done(outcome, (path, folder / OUTCOME))


def evaluate(file: Path, config_file: Path, machine: Machine) -> Done:
    """Judge a written network by the test part of its data.

    Args:
        file: of the set.
        config_file: the configuration.
        machine: what it runs on.

    Raises:
        PrunecoreError: with what is wrong.
    """
    job = read_job(config_file)
    train_config = job.train
    written = read_set(file)
    data = data_for(written.network, job, config_file)
    network = Network(written.network, train_config, classes_of(data))
    test = judge(network, data, machine)
    model = written.report["model"]
    return Done({"command": "evaluate", "model": model, "data": data.record(), "test": test})


def _told(trained: Trained, network: Network, data: Data, mark: str) -> dict[str, Any]:
    return {
        "schema": 1,
        "fingerprint": mark,
        "data": data.record(),
        "epochs": len(trained.history),
        "best_epoch": trained.epoch,
        "validation": trained.validation,
        "history": trained.history,
        "train": asked_of(network.config),
        "resumed": False,
    }
