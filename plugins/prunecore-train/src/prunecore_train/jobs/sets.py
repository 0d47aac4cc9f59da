"""Written sets: read to be trained, and written again with the weights that came of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunecore.errors import UsageError
from prunecore.escaping import shown
from prunecore.files import storage
from prunecore.files.paths import is_file, read_text
from prunecore.files.shards import is_index, read_index
from prunecore.files.weights import check_weights_file, read_weights
from prunecore.verification import check_set
from prunecore.writing.building import network_of
from prunecore_train.writing import resumable

TRAINED = "trained"  # the step in a report
_LONGEST = 2**28  # bytes of a source


@dataclass(frozen=True)
class WrittenSet:
    """A smaller network as it was written.

    Attributes:
        path: of its source.
        source: its text.
        report: what was done.
        weights: its state dict.
        network: made of these; training changes its own copies of them.
    """

    path: Path
    source: str
    report: dict[str, Any]
    weights: Mapping[str, Tensor]
    network: nn.Module

    @property
    def shards(self) -> list[list[str]]:
        """The names of the tensors in each of its weights files."""
        file = storage.weights_file(self.path, self.report)
        return list(map(sorted, read_index(file).values())) if is_index(file) else [[*self.weights]]


def read_set(path: Path) -> WrittenSet:
    """Read a set; its file is imported, which runs it.

    Raises:
        PrunecoreError: the set is not complete.
    """
    if not is_file(path):
        raise UsageError(f"There is no file {shown(path)}.\nGive the .py file of a written set.")
    report = storage.read_report(path)
    file = storage.weights_file(path, report)
    check_weights_file(file)
    weights = dict(read_weights(file))
    network = network_of(
        path, report["model"], {name: tensor.clone() for name, tensor in weights.items()}
    )
    return WrittenSet(path, read_text(path, _LONGEST), report, weights, network)


def check_original(written: WrittenSet, original: nn.Module) -> None:
    """Refuse a network that a set was not made from.

    Raises:
        PrunecoreError: the set was made from another one, or of other weights.
    """
    if storage.hash_of(written.path) == written.report["sha256"]["source"]:
        check_set(written.path, copy.deepcopy(original), None)


def write_trained(
    written: WrittenSet, path: Path, told: Mapping[str, Any], fingerprint: str, force: bool
) -> None:
    """Write a set anew, with the weights that its network has now.

    Args:
        written: as it was read; its network is trained.
        path: of the new source.
        told: of the training, beside which tensors it has changed.
        fingerprint: of the training.
        force: whether a set that is there may be replaced.

    Raises:
        PrunecoreError: as `save_set`.
    """
    now = {name: tensor.detach().cpu() for name, tensor in written.network.state_dict().items()}
    changed = [
        name for name in written.weights if not torch.equal(now[name], written.weights[name])
    ]
    step = {"step": TRAINED, "changed": changed, "undone": False, **told}
    report = {
        **written.report,
        "fingerprint": fingerprint,
        "recovered": [*written.report["recovered"], step],
    }
    parts = [{name: now[name].clone() for name in names} for names in written.shards]
    with resumable():
        storage.save_set(path, written.source, parts, report, force)
