"""What a job of subsets is about: a network and the images of a subset, which go together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from safetensors.torch import save
from torch import Tensor, nn

from prunecore.errors import UsageError
from prunecore.escaping import shown
from prunecore.files import models
from prunecore.strategies.best import check_mode
from prunecore_train.config import Job
from prunecore_train.images.data import Data
from prunecore_train.jobs.heads import shrunk
from prunecore_train.jobs.networks import classes_of, data_for, network_of, plain_weights
from prunecore_train.jobs.outcome import CHECKPOINTS, fingerprint_of, is_first_process
from prunecore_train.training.network import Network
from prunecore_train.training.trainer import Machine, during, fit, judge
from prunecore_train.writing import write


@dataclass(frozen=True)
class Subject:
    """A network and the images of a subset, which go together.

    Attributes:
        name: of the network.
        network: as it was loaded; where that is asked for, with the outputs of the subset alone.
        data: the images.
        images: of these, the ones for scores and refits.
        source: the text of the network's file, where that is made here.
    """

    name: str
    network: nn.Module
    data: Data
    images: Tensor
    source: str | None = None


def subject_of(file: Path, job: Job) -> Subject:
    """Load what a configuration names, and see that it goes together.

    Raises:
        PrunecoreError: with what is wrong.
    """
    model = job.config.model
    if model.name is None:
        raise UsageError(f"{shown(file)} names no model.\nGive model: {{name: resnet18}}.")
    check_mode(job.config.pruner.mode)
    network = network_of(model, job.train.seed)
    data = data_for(network, job, file)
    name = job.config.pruner.net_name or models.factory_name(model.name)
    source = None
    if job.adapt.shrink_head and len(data.kept) == len(data.source.classes):
        raise UsageError(
            f"{shown(file)}: adapt: shrink_head drops the outputs of other classes, and all are "
            "kept.\nGive data: sub_classes, or leave shrink_head out."
        )
    if job.adapt.shrink_head and not data.renumbered:
        source, network = shrunk(network, data, name)
    return Subject(name, network, data, data.images(job.adapt.images), source)


def finetuned(subject: Subject, job: Job, folder: Path, machine: Machine) -> dict[str, float]:
    """Train the unpruned network on the subset; what the validation part then says.

    Its weights, those of its best epoch, lie in the folder; its file, too, where that is made here.
    """
    data, network = subject.data, subject.network
    file = folder / f"{subject.name}.py"
    if subject.source is not None and is_first_process():
        write(file, subject.source.encode())
    config = replace(job.train, epochs=max(1, job.adapt.finetune_epochs), distillation=None)
    module = Network(network, config, classes_of(data))
    if job.adapt.finetune_epochs:
        mark = fingerprint_of("finetune for adapt", [network], data, config)
        with during("Fine-tuning on the subset"):
            validation = fit(module, data, folder / CHECKPOINTS, mark, machine).validation
    else:
        validation = judge(module, data, machine, "val")
    if is_first_process():
        write(file.with_suffix(".safetensors"), save(plain_weights(network)))
    return validation
