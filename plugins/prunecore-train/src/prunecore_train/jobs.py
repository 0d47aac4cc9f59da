"""The jobs of the commands: what is asked for is checked and loaded, then trained and written."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from prunecore.cli import load, part_of
from prunecore.errors import PrunecoreError, UsageError, told
from prunecore.escaping import shown
from prunecore.files import models, storage
from prunecore.files.config import ModelConfig
from prunecore.files.fingerprint import fingerprint_network
from prunecore.files.paths import is_there
from prunecore_train.config import TrainConfig, plain_name, read_job
from prunecore_train.data import Data
from prunecore_train.distillation import Student
from prunecore_train.network import Network
from prunecore_train.sets import WrittenSet, check_original, read_set, write_trained
from prunecore_train.training import Machine, Trained, fit, judge

OUTCOME = "outcome.json"
_CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Done:
    """What came of a job.

    Attributes:
        outcome: ready for JSON.
        written: the files, none where all was there already.
    """

    outcome: dict[str, Any]
    written: tuple[Path, ...] = ()


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
    config, data_config, train_config = read_job(file)
    if config.model.name is None:
        raise UsageError(f"{shown(file)} names no model.\nGive model: {{name: resnet18}}.")
    name = models.factory_name(config.model.name)
    folder = output or train_config.output or Path(f"{name}_trained")
    model = _loaded(config.model, train_config.seed)
    data = Data(data_config)
    data.renumbered = has_head_of(model, data, train_config)
    mark = _fingerprint("train", [model], data, train_config)
    if (done := _done(folder, mark, force)) is not None:
        return Done(done)
    network = Network(model, train_config, classes_of(data))
    trained = fit(network, data, folder / _CHECKPOINTS, mark, machine)
    outcome = {
        "command": "train",
        "model": name,
        "weights": f"{name}.safetensors",
        **_told(trained, network, data, mark),
        "test": judge(network, data, machine),
    }
    written = folder / f"{name}.safetensors", folder / OUTCOME
    if network.global_rank == 0:
        write(written[0], save(plain_weights(model)))
        write(written[1], (json.dumps(outcome, indent=2) + "\n").encode())
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
    config, data_config, train_config = read_job(config_file)
    path = output or file.with_name(f"{file.stem}_trained.py")
    written = read_set(file)
    original = None
    if config.model.name is not None and train_config.distillation is not None:
        original = _loaded(config.model, config.pruner.seed)
        check_original(written, original)
    data = Data(data_config)
    data.renumbered = has_head_of(written.network, data, train_config)
    networks = [written.network, *([original] if original else [])]
    mark = _fingerprint("finetune", networks, data, train_config)
    folder = path.with_name(f"{path.stem}_training")
    is_ours = storage.read_fingerprint(path) == mark
    storage.check_target(path, force or is_ours)
    if (done := _done(folder, mark, force)) is not None and is_ours:
        return Done(done)
    network = _in_training(written, original, train_config, classes_of(data))
    trained = fit(network, data, folder / _CHECKPOINTS, mark, machine)
    outcome = {
        "command": "finetune",
        "model": written.report["model"],
        "distilled": isinstance(network, Student),
        **_told(trained, network, data, mark),
        "test": judge(network, data, machine),
    }
    if network.global_rank == 0:
        kept = ("data", "epochs", "best_epoch", "distilled", "validation")
        write_trained(written, path, {key: outcome[key] for key in kept}, mark, force or is_ours)
        write(folder / OUTCOME, (json.dumps(outcome, indent=2) + "\n").encode())
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
    _, data_config, train_config = read_job(config_file)
    written = read_set(file)
    data = Data(data_config)
    data.renumbered = has_head_of(written.network, data, train_config)
    network = Network(written.network, train_config, classes_of(data))
    test = judge(network, data, machine)
    model = written.report["model"]
    return Done({"command": "evaluate", "model": model, "data": data.record(), "test": test})


def _loaded(model: ModelConfig, seed: int) -> nn.Module:
    """The network that a configuration names."""
    loaded = load(str(model.name), model.arguments, model.weights, seed)
    return part_of(loaded, model.module).model


def _in_training(
    written: WrittenSet, original: nn.Module | None, config: TrainConfig, classes: int
) -> Network:
    if original is None or config.distillation is None:
        return Network(written.network, config, classes)
    taught = config.distillation
    return Student(written.network, config, classes, original, taught, written.report)


def classes_of(data: Data) -> int:
    """How many classes metrics tell apart; 0 where labels are none."""
    return data.count if data.source.labels else 0


def has_head_of(network: nn.Module, data: Data, config: TrainConfig) -> bool:
    """True where a network knows the kept classes alone, so that labels count these.

    Raises:
        UsageError: it has neither as many outputs as there are classes, nor as those kept.
        PrunecoreError: it does not take the images.
    """
    images = next(iter(data.val_dataloader()))[0][:2]
    try:
        with torch.no_grad():
            outputs = copy.deepcopy(network).eval()(images)
    except Exception as error:  # whatever the network raises
        what = f"images of shape {tuple(images.shape)}" if isinstance(images, Tensor) else "inputs"
        raise PrunecoreError(
            f"The network does not take the {what} of {shown(data.source.name)}: {told(error)}\n"
            "Give data that it is made for, or its arguments (model: arguments)."
        ) from error
    if not data.source.labels or ":" in config.loss.name:
        return False
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        raise UsageError(
            "The network returns no scores of classes, of shape (n, classes).\n"
            "Give a loss of its own: train: loss: package.module:function."
        )
    found, known, kept = outputs.shape[1], len(data.source.classes), len(data.kept)
    if found not in (known, kept):
        subset = f", of which {kept} are kept" if kept < known else ""
        raise UsageError(
            f"The network tells {found} classes apart, and {shown(data.source.name)} has {known}"
            f"{subset}.\nGive a network with as many outputs, such as model: arguments: "
            f"{{num_classes: {known}}}."
        )
    return found != known


def plain_weights(network: nn.Module) -> dict[str, Tensor]:
    """A network's state dict, no tensor of which shares memory with another one."""
    return {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in network.state_dict().items()
    }


def write(file: Path, content: bytes) -> None:
    """Write a file as a whole, or leave what was there.

    Raises:
        PrunecoreError: the system refuses to.
    """
    part = file.with_name(f".{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise PrunecoreError(f"Cannot write {shown(file)}: {error.strerror}.") from error


def _fingerprint(
    command: str, networks: Sequence[nn.Module], data: Data, config: TrainConfig
) -> str:
    """A hash of all that a training depends on, but for the machine."""
    versions = {name: version(name) for name in ("prunecore", "prunecore-train")}
    images = asdict(replace(data.config, name=None, root=None, folder=None, workers=0))
    made = [fingerprint_network(network, {}, versions) for network in networks]
    values = [command, made, data.record(), _asked(config), images]
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def _asked(config: TrainConfig) -> dict[str, Any]:
    """How a network is trained, told alike on every machine."""
    loss = replace(config.loss, name=plain_name(config.loss.name))
    asked = asdict(replace(config, loss=loss))
    del asked["output"]
    return asked


def _done(folder: Path, mark: str, force: bool) -> dict[str, Any] | None:
    """The outcome of a job that was finished before; what is there of another one is removed.

    Raises:
        UsageError: there is one of another job, and it may not be removed.
    """
    file = folder / OUTCOME
    if force:
        shutil.rmtree(folder / _CHECKPOINTS, ignore_errors=True)
        file.unlink(missing_ok=True)
    if not is_there(file):
        return None
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        is_same = found["fingerprint"] == mark
    except (OSError, ValueError, TypeError, KeyError):
        is_same = False
    if not is_same:
        raise UsageError(
            f"{shown(file)} is of another network, other data, another training or another version."
            "\nGive another --output, or replace it with --force."
        )
    return {**found, "resumed": True}


def _told(trained: Trained, network: Network, data: Data, mark: str) -> dict[str, Any]:
    prefix = "val "
    best = trained.history[trained.epoch - 1]
    return {
        "schema": 1,
        "fingerprint": mark,
        "data": data.record(),
        "epochs": len(trained.history),
        "best_epoch": trained.epoch,
        "validation": {
            name.removeprefix(prefix): value
            for name, value in best.items()
            if name.startswith(prefix)
        },
        "history": trained.history,
        "train": _asked(network.config),
        "resumed": False,
    }
