"""The outcome of a job: what it depends on, and what it leaves in its folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from prunecore.errors import UsageError
from prunecore.escaping import shown
from prunecore.files import models, storage
from prunecore.files.fingerprint import fingerprint_network
from prunecore.files.paths import is_there
from prunecore_train.config import TrainConfig, plain_name
from prunecore_train.images.data import Data
from prunecore_train.writing import check_folder

OUTCOME = "outcome.json"
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Done:
    """What came of a job.

    Attributes:
        outcome: ready for JSON.
        written: the files, none where all was there already.
    """

    outcome: dict[str, Any]
    written: tuple[Path, ...] = ()


def as_json(content: Mapping[str, Any]) -> bytes:
    """The text of a file."""
    return (json.dumps(content, indent=2) + "\n").encode()


def is_first_process() -> bool:
    """True in the one process, of several that train together, that writes and tells."""
    return not rank_zero_only.rank  # type: ignore[attr-defined] # Lightning sets it on import


def fingerprint_of(
    command: str, networks: Sequence[nn.Module], data: Data, config: TrainConfig, more: Any = None
) -> str:
    """A hash of all that a training depends on, but for the machine."""
    versions = {name: version(name) for name in ("prunecore", "prunecore-train")}
    images = asdict(replace(data.config, name=None, root=None, folder=None, workers=0))
    made = [fingerprint_network(network, {}, versions) for network in networks]
    code = code_of(data.config.name)
    values = [command, made, data.record(), asked_of(config), images, code, more]
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def asked_of(config: TrainConfig) -> dict[str, Any]:
    """How a network is trained, told alike on every machine."""
    loss = replace(config.loss, name=plain_name(config.loss.name))
    asked = asdict(replace(config, loss=loss))
    del asked["output"]
    if (code := code_of(config.loss.name)) is not None:
        asked["loss"]["sha256"] = code
    return asked


def code_of(name: str | None) -> str | None:
    """A hash of the file that a function of the user's is in; `None` of what a name alone says."""
    file = models.file_of(name) if name and ":" in name else None
    return storage.hash_of(file) if file else None


def read_marked(file: Path, mark: str) -> dict[str, Any] | None:
    """What a file of JSON holds, where it is there and its fingerprint is this one."""
    if not is_there(file):
        return None
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found if found["fingerprint"] == mark else None
    except (OSError, ValueError, TypeError, KeyError):  # one that others have written
        return None


def finished(folder: Path, mark: str, force: bool) -> dict[str, Any] | None:
    """The outcome of a job that was finished before; what is there of another one is removed.

    Raises:
        UsageError: there is one of another job, and it may not be removed, or the folder cannot be
            written.
    """
    file = folder / OUTCOME
    check_folder(folder)
    if force:
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        file.unlink(missing_ok=True)
    if not is_there(file):
        return None
    found = read_marked(file, mark)
    if found is None:
        raise UsageError(
            f"{shown(file)} is of another network, other data, another training or another version."
            "\nGive another --output, or replace it with --force."
        )
    return {**found, "resumed": True}
