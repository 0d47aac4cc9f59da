"""The networks of jobs: loaded, and checked against their data."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from prunecore.cli import load, part_of
from prunecore.errors import PrunecoreError, UsageError, told
from prunecore.escaping import shown
from prunecore.files.config import ModelConfig, named
from prunecore_train.config import Job, TrainConfig
from prunecore_train.images.data import Data
from prunecore_train.jobs.sets import WrittenSet
from prunecore_train.training.distillation import Student
from prunecore_train.training.network import Network


def network_of(model: ModelConfig, seed: int) -> nn.Module:
    """The network that a configuration names."""
    loaded = load(str(model.name), model.arguments, model.weights, seed)
    return part_of(loaded, model.module).model


def in_training(
    written: WrittenSet, original: nn.Module | None, config: TrainConfig, classes: int
) -> Network:
    """A written network in training, taught by its original where there is one."""
    if original is None or config.distillation is None:
        return Network(written.network, config, classes)
    taught = config.distillation
    return Student(written.network, config, classes, original, taught, written.report)


def classes_of(data: Data) -> int:
    """How many classes metrics tell apart; 0 where labels are none."""
    return data.count if data.source.labels else 0


def data_for(network: nn.Module, job: Job, file: Path) -> Data:
    """The images that a configuration names; labels count what the network's outputs stand for.

    Raises:
        UsageError: they are not there, or the network has neither as many outputs as there are
            classes, nor as those kept.
        PrunecoreError: it does not take the images.
    """
    with named(f"{shown(file)}: data"):
        data = Data(job.data)
    data.renumbered = _has_head_of(network, data, job.train)
    return data


def _has_head_of(network: nn.Module, data: Data, config: TrainConfig) -> bool:
    """True where a network knows the kept classes alone."""
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
