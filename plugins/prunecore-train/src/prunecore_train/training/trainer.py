"""Training by Lightning's `Trainer`: checkpoints, going on where a run was killed, the outcome."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from prunecore.errors import PrunecoreError, UsageError, reason_of, told
from prunecore.escaping import shown
from prunecore_train.images.data import Data
from prunecore_train.training.network import VALIDATION, Network
from prunecore_train.writing import write

_MARK = "prunecore_train"  # of a checkpoint: the fingerprint of its job


@dataclass(frozen=True)
class Machine:
    """What a network is trained on.

    Attributes:
        accelerator: `cpu`, `gpu` and others, or `auto`.
        devices: how many of a node, or `auto`.
        nodes: how many.
        strategy: of several, such as `ddp`.
        precision: such as `32-true`, `16-mixed` or `bf16-mixed`.
        progress: whether a bar is drawn.
    """

    accelerator: str = "auto"
    devices: str | int = "auto"
    nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    progress: bool = False


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes:
        best: the checkpoint of the epoch that validates best.
        epoch: its number, from 1 on.
        history: what was told of each epoch.
        resumed: the number of epochs that a run before has done.
    """

    best: Path
    epoch: int
    history: list[dict[str, float]]
    resumed: int

    @property
    def validation(self) -> dict[str, float]:
        """What the validation part says of the best epoch."""
        best = self.history[self.epoch - 1].items()
        return {
            name.removeprefix(VALIDATION): value
            for name, value in best
            if name.startswith(VALIDATION)
        }


def fit(
    network: Network,
    data: Data,
    folder: Path,
    fingerprint: str,
    machine: Machine,
    until: float | None = None,
) -> Trained:
    """Train a network; its weights are then those of its best epoch.

    A run that was killed goes on from its last checkpoint, to the same result.

    Args:
        network: in training.
        data: its images.
        folder: of the checkpoints.
        fingerprint: of all that the result depends on.
        machine: what it is trained on.
        until: what validation has to come to; training then ends.

    Raises:
        UsageError: the checkpoint there is of another job, or the machine has not what is asked.
        PrunecoreError: the loss is no number.
    """
    last = folder / "last.ckpt"
    resumed = _epochs_of(last, fingerprint) if last.exists() else 0
    checkpoint = ModelCheckpoint(
        folder,
        filename="best-{epoch}",
        monitor=network.monitored,
        mode=network.mode,
        save_last=True,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    callbacks: list[Callback] = [_Mark(fingerprint), checkpoint]
    patience = network.config.patience
    if patience is not None:
        callbacks.append(_Patience(network.monitored, mode=network.mode, patience=patience))
    if until is not None:
        callbacks.append(_Until(network, until))
    with _as_before():
        trainer = trainer_of(machine, callbacks, folder, max_epochs=network.config.epochs)
        _check_share(data, trainer)
        try:
            trainer.fit(network, datamodule=data, ckpt_path=str(last) if resumed else None)
        except OSError as error:
            raise PrunecoreError(
                f"Training stopped: {told(error)}\nMend that, and start again: it goes on from the "
                f"last epoch that is in {shown(folder)}."
            ) from error
    best = Path(checkpoint.best_model_path)
    content = torch.load(best, map_location="cpu", weights_only=True)
    network.load_state_dict(content["state_dict"])
    return Trained(best, content["epoch"] + 1, network.history, resumed)


def judge(network: Network, data: Data, machine: Machine, part: str = "test") -> dict[str, float]:
    """What the test part, or `val`, says of a network."""
    with _as_before():
        trainer = trainer_of(machine, [], None)
        run = trainer.test if part == "test" else trainer.validate
        run(network, datamodule=data, verbose=False)
    return _values(trainer, f"{part} ")


def trainer_of(
    machine: Machine, callbacks: list[Callback], folder: Path | None, **options: Any
) -> Trainer:
    """Lightning's trainer for a machine.

    Raises:
        UsageError: the machine has not what is asked.
    """
    try:
        return Trainer(
            accelerator=machine.accelerator,
            devices=machine.devices,
            num_nodes=machine.nodes,
            strategy=machine.strategy,
            precision=machine.precision,  # type: ignore[arg-type]
            callbacks=callbacks,
            plugins=[_WholeCheckpoints()],
            default_root_dir=folder,
            enable_progress_bar=machine.progress,
            enable_checkpointing=bool(callbacks),
            enable_model_summary=False,
            logger=False,
            num_sanity_val_steps=0,
            inference_mode=False,  # or metrics could not be added to in a training afterwards
            use_distributed_sampler=False,  # batches are shared out by `Batches`
            deterministic="warn",
            sync_batchnorm=machine.accelerator != "cpu" and torch.cuda.is_available(),
            **options,
        )
    except (MisconfigurationException, ValueError, RuntimeError, ImportError) as error:
        asked = [
            f"--{one.name} {value}"
            for one in fields(machine)
            if (value := getattr(machine, one.name)) != one.default and one.name != "progress"
        ]
        raise UsageError(
            f"Cannot train with {shown(' '.join(asked)) or 'what there is'}: {reason_of(error)}\n"
            "Give what this machine has, or leave it out to train on what there is."
        ) from error


def check_machine(machine: Machine) -> None:
    """Refuse a machine that is not there, before anything is read or written.

    Raises:
        UsageError: this one has not what is asked.
    """
    with _as_before():
        trainer_of(machine, [], None)


@contextmanager
def during(training: str) -> Iterator[None]:
    """Say in the error that ends one of several trainings which one it was."""
    try:
        yield
    except UsageError:
        raise
    except PrunecoreError as error:
        raise PrunecoreError(f"{training}: {error}") from error


@contextmanager
def _as_before() -> Iterator[None]:
    """Leave torch as it was, and keep Lightning from telling of the hardware and of itself."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.WARNING)
    deterministic = torch.are_deterministic_algorithms_enabled()
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic
    fills = settings.fill_uninitialized_memory
    settings.fill_uninitialized_memory = False  # which costs time, and changes no result
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=PossibleUserWarning)
            warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
            # that Lightning calls what torch will not have for long
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
            yield
    finally:
        log.setLevel(level)
        torch.use_deterministic_algorithms(deterministic, warn_only=only_warns)
        settings.fill_uninitialized_memory = fills


def _check_share(data: Data, trainer: Trainer) -> None:
    """Refuse a batch that the processes cannot share evenly."""
    size, ranks = data.config.batch_size, trainer.world_size
    if size % ranks:
        raise UsageError(
            f"A batch of {size} cannot be shared by {ranks} processes.\n"
            f"Give data: batch_size: {ranks * max(1, size // ranks)}."
        )


def _epochs_of(file: Path, fingerprint: str) -> int:
    """How many epochs a checkpoint of this job has done.

    Raises:
        UsageError: it is of another job.
        PrunecoreError: it cannot be read.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        mark, epochs = content.get(_MARK), int(content["epoch"]) + 1
    except Exception as error:  # torch.load raises what the bytes happen to lead to
        raise PrunecoreError(
            f"{shown(file)} is no checkpoint of a training.\nRemove it, or give another output."
        ) from error
    if mark != fingerprint:
        raise UsageError(
            f"{shown(file)} is of another network, other data, another training or another version."
            "\nGive another output, or start anew with --force."
        )
    return epochs


def _values(trainer: Trainer, prefix: str = "") -> dict[str, float]:
    """What was told last, under names that begin so."""
    told = trainer.callback_metrics.items()
    return {
        name.removeprefix(prefix): float(value) for name, value in told if name.startswith(prefix)
    }


class _Patience(EarlyStopping):
    """Ends a training that has ended before it was killed, too."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class _Until(Callback):
    """Ends a training that validates as well as was asked for; one that goes on, at once."""

    def __init__(self, network: Network, asked: float) -> None:
        self.network, self.asked = network, asked

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        history = self.network.history
        trainer.should_stop |= any(self._holds(row[self.network.monitored]) for row in history)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop |= self._holds(float(trainer.callback_metrics[self.network.monitored]))

    def _holds(self, value: float) -> bool:
        return is_as_good(self.network, value, self.asked)


def is_as_good(network: Network, value: float, asked: float) -> bool:
    """True if what a network is judged by is what was asked for, or better."""
    return value >= asked if network.mode == "max" else value <= asked


class _WholeCheckpoints(TorchCheckpointIO):
    """Writes each in the place of the one before at once.

    Lightning writes into the system's temporary folder first, and copies from there where that is
    on another disk: of a run that is killed meanwhile, or a disk that is full, neither is left.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write(Path(path), content.getbuffer())


class _Mark(Callback):
    """Writes into checkpoints which job they are of."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[_MARK] = self.fingerprint
