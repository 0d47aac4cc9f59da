"""Storage of a written set: files that are checked beforehand, and tell whether they are whole."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

from torch import Tensor

from prunecore.errors import PrunecoreError, UsageError, reason_of
from prunecore.escaping import shown
from prunecore.files.commit import (
    commit,
    files_of,
    lock_of,
    longest_name,
    recover,
    sync_folder,
    work_folder,
)
from prunecore.files.locks import locked
from prunecore.files.paths import is_file, is_folder, is_there, read_text
from prunecore.files.reports.report import report_text
from prunecore.files.reports.schema import what_is_wrong
from prunecore.files.shards import INDEX, index_text, shard_name
from prunecore.files.tensor_files import write_tensors
from prunecore.planning.goal import Goal

LONGEST_REPORT = 2**28  # bytes


_PIECE = 2**20  # bytes that are read at once


def set_path(folder: Path, name: str, level: float | Goal, number: int | None = None) -> Path:
    """Where the source of a written set goes, by a name that can be imported.

    Args:
        folder: the folder of the set.
        name: the network's name.
        level: in percent, 12.5 is written `12_5`; or what is to be left, `5M_params`.
        number: of the set among several of this level.
    """
    if isinstance(level, Goal):
        asked = level.name
    else:
        asked = format(Decimal(repr(level)).normalize(), "f").replace(".", "_")
    return folder / f"{name}_{asked}{'' if number is None else f'_{number}'}.py"


def check_target(path: Path, force: bool) -> None:
    """See whether a set can be written, before any work and without leaving a trace.

    Args:
        path: of its source.
        force: whether an existing set may be replaced.

    Raises:
        UsageError: the name cannot be imported, the folder cannot be written, or the set exists.
    """
    _check_place(path)
    _check_free(path, force)


def _check_place(path: Path) -> None:
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise UsageError(
            f"{shown(path)} is not a name to import a network by.\n"
            "Give one of letters, digits and underscores that ends in .py."
        )
    for file in files_of(path):
        if os.path.islink(file):
            raise UsageError(
                f"{shown(file)} is a symbolic link, which is neither followed nor replaced.\n"
                "Remove it, or give another name."
            )
        if is_there(file) and not is_file(file):
            what = "a folder" if is_folder(file) else "no regular file"
            raise UsageError(f"{shown(file)} is {what}.\nMove it, or give another name.")
    missing = list(
        itertools.takewhile(lambda folder: not is_there(folder), path.absolute().parents)
    )
    parent = path.absolute().parents[len(missing)]
    for name in (longest_name(path), *(folder.name for folder in missing)):
        is_there(parent / name)  # which the system refuses where the name is too long for it
    place = f"Cannot write to {shown(path.parent)}"
    for folder in missing:
        if os.path.islink(folder):
            raise UsageError(
                f"{place}: {shown(folder)} is a symbolic link to what is not there.\n"
                "Remove it, or give another folder."
            )
    if not is_folder(parent):
        raise UsageError(f"{place}: {shown(parent)} is a file, not a folder.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(f"{place}: no permission to write in {shown(parent)}.")


def _check_free(path: Path, force: bool) -> None:
    existing = [file for file in files_of(path) if is_there(file)]
    if not existing or force:
        return
    what = f"{shown(existing[-1])} exists."
    if fault := fault_of(path):
        raise UsageError(
            f"{what}\nIts set is not whole, as {fault}: replace it with --force (force=True)."
        )
    raise UsageError(f"{what}\nReplace the set with --force (force=True).")


def fault_of(path: Path) -> str | None:
    """Why files are no whole set, but half of one, or of several; `None` if they are one.

    Args:
        path: of the source.
    """
    report_file = path.with_suffix(".json")
    if not is_file(report_file):
        return f"{shown(report_file.name)} is missing"
    try:
        report = read_report(path)
        hashes = {**weights_hashes(path, report), path: report["sha256"]["source"]}
        for file in hashes:
            if not is_file(file):
                return f"{shown(file.name)} is missing"
        for file, expected in hashes.items():
            if hash_of(file) != expected:
                return (
                    f"{shown(file.name)} is not what was written with {shown(report_file.name)} "
                    "(edited since, or of another set)"
                )
    except PrunecoreError as error:
        return str(error).splitlines()[0].rstrip(".")
    return None


def weights_file(path: Path, report: Mapping[str, Any]) -> Path:
    """The weights of a set, or the index of their shards.

    Args:
        path: of the source.
        report: the set's.
    """
    return path.with_suffix(INDEX if report["sha256"].get("shards") else ".safetensors")


def weights_hashes(path: Path, report: Mapping[str, Any]) -> dict[Path, str]:
    """The files that hold a set's weights, shards among them, with the SHA-256 of each.

    Args:
        path: of the source.
        report: the set's.
    """
    hashes = report["sha256"]
    shards = {path.with_name(name): told for name, told in hashes.get("shards", {}).items()}
    return {weights_file(path, report): hashes["weights"], **shards}


def hash_of(file: Path) -> str:
    """The SHA-256 of what a file holds, as `sha256sum` prints it.

    Raises:
        PrunecoreError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with file.open("rb") as opened:
            while piece := opened.read(_PIECE):
                digest.update(piece)
    except OSError as error:
        raise PrunecoreError(f"Cannot read {shown(file)}: {error.strerror}.") from error
    return digest.hexdigest()


def read_fingerprint(path: Path) -> str | None:
    """The fingerprint of what a whole written set was made from; `None` where there is none.

    Args:
        path: of its source.
    """
    if fault_of(path):
        return None
    fingerprint: str | None = read_report(path)["fingerprint"]
    return fingerprint


def read_report(path: Path) -> dict[str, Any]:
    """The report of a written set.

    Args:
        path: of its source.

    Raises:
        PrunecoreError: it is missing or no report.
    """
    file = path.with_suffix(".json")
    try:
        report = json.loads(read_text(file, LONGEST_REPORT))
    except (UsageError, ValueError, RecursionError) as error:
        raise PrunecoreError(
            f"{shown(file)} is not the report of a written set: {reason_of(error)}\n"
            "Keep the three files of a set together, or write the set again."
        ) from error
    if wrong := what_is_wrong(report):
        raise PrunecoreError(
            f"{shown(file)} is not the report of a written set: {wrong}.\nWrite the set again."
        )
    return report  # type: ignore[no-any-return]


def save_set(
    path: Path,
    source: str,
    weights: Sequence[Mapping[str, Tensor]],
    report: MutableMapping[str, Any],
    force: bool,
) -> tuple[Path, Path, Path]:
    """Write a network's source, weights and report: all of them, or none.

    Of several threads and processes that write the same set, one writes all of it after the other.

    Args:
        path: of the source; the others lie beside it.
        source: its text.
        weights: its state dict; several parts of it are several shards.
        report: what was done; the hashes of the other files are added, which tell what belongs
            together.
        force: whether an existing set may be replaced.

    Returns:
        The paths of the source, the weights, or the index of their shards, and the report.

    Raises:
        UsageError: as `check_target`.
        PrunecoreError: the system refuses to write, for instance because the disk is full.
    """
    _check_place(path)
    folders = [folder for folder in path.absolute().parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in folders:
            sync_folder(folder.parent)
        with locked(lock_of(path)):
            recover(path)
            _check_free(path, force)
            part = work_folder(path)
            try:
                _write_files(part / path.name, source, weights, report)
                commit(part, path)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or reason_of(error)
        raise PrunecoreError(
            f"Cannot write {shown(path)} and the files beside it: {reason}.\n"
            "Nothing was left behind."
        ) from error
    finally:
        for folder in folders:
            with suppress(OSError):  # it holds the set
                folder.rmdir()
    return path, weights_file(path, report), path.with_suffix(".json")


def _write_files(
    path: Path,
    source: str,
    weights: Sequence[Mapping[str, Tensor]],
    report: MutableMapping[str, Any],
) -> None:
    path.write_text(source, encoding="utf-8", newline="\n")
    shards: dict[str, str] = {}
    if len(weights) == 1:
        of_weights = write_tensors(path.with_suffix(".safetensors"), weights[0])
    else:
        names = [shard_name(path.stem, place, len(weights)) for place in range(len(weights))]
        parts = dict(zip(names, weights, strict=True))
        shards = {name: write_tensors(path.with_name(name), parts[name]) for name in names}
        index = path.with_suffix(INDEX)
        index.write_text(index_text(parts), encoding="utf-8", newline="\n")
        of_weights = hash_of(index)
    report["sha256"] = {"source": hash_of(path), "weights": of_weights, "shards": shards}
    text = report_text(report)
    path.with_suffix(".json").write_text(text, encoding="utf-8", newline="\n")
    for file in files_of(path):
        with file.open("rb+") as written:
            os.fsync(written.fileno())
