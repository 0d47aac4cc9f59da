"""Storage of a written set: three files, checked beforehand, written beside, then renamed."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from prunecore.errors import PrunecoreError, UsageError, reason_of
from prunecore.escaping import shown
from prunecore.files.paths import is_file, is_folder, is_there, read_text
from prunecore.files.report import report_text, what_is_wrong
from prunecore.planning.goal import Goal

SUFFIXES = (".safetensors", ".json", ".py")  # the source last: where it is, the set is whole


LONGEST_REPORT = 2**28  # bytes


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
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise UsageError(
            f"{shown(path)} is not a name to import a network by.\n"
            "Give one of letters, digits and underscores that ends in .py."
        )
    existing = [file for file in _files(path) if is_there(file)]
    others = [file for file in existing if not is_file(file)]
    if others:
        what = "a folder" if is_folder(others[0]) else "no regular file"
        raise UsageError(f"{shown(others[0])} is {what}.\nMove it, or give another name.")
    if existing and not force:
        raise UsageError(
            f"{shown(existing[-1])} exists.\nReplace the set with --force (force=True)."
        )
    missing = list(
        itertools.takewhile(lambda folder: not is_there(folder), path.absolute().parents)
    )
    parent = path.absolute().parents[len(missing)]
    longest = _aside(_beside(path.with_suffix(SUFFIXES[0])))
    for name in (longest.name, *(folder.name for folder in missing)):
        is_there(parent / name)  # which the system refuses where the name is too long for it
    place = f"Cannot write to {shown(path.parent)}"
    if not is_folder(parent):
        raise UsageError(f"{place}: {shown(parent)} is a file, not a folder.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(f"{place}: no permission to write in {shown(parent)}.")


def read_fingerprint(path: Path) -> str | None:
    """The fingerprint of what a whole written set was made from; `None` where there is none.

    Args:
        path: of its source.
    """
    if not all(map(is_file, _files(path))):
        return None
    try:
        fingerprint = read_report(path).get("fingerprint")
    except PrunecoreError:
        return None
    return fingerprint if isinstance(fingerprint, str) else None


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
    weights: Mapping[str, Tensor],
    report: Mapping[str, Any],
    force: bool,
) -> tuple[Path, Path, Path]:
    """Write a network's source, weights and report: all three, or none.

    Args:
        path: of the source; the others lie beside it.
        source: its text.
        weights: its state dict.
        report: what was done.
        force: whether an existing set may be replaced.

    Returns:
        The paths of the source, the weights and the report.

    Raises:
        UsageError: as `check_target`.
        PrunecoreError: the system refuses to write, for instance because the disk is full.
    """
    check_target(path, force)
    files = _files(path)
    new = weights_file, report_file, source_file = tuple(_beside(file) for file in files)
    folders = [folder for folder in path.absolute().parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        source_file.write_text(source, encoding="utf-8", newline="\n")
        report_file.write_text(report_text(report), encoding="utf-8", newline="\n")
        contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
        save_file(contiguous, weights_file, metadata={"format": "pt"})
        shutil.copymode(source_file, weights_file)  # safetensors lets nobody else read its files
        for file in new:
            with file.open("rb+") as written:
                os.fsync(written.fileno())
        _rename(new, files)
    except (OSError, SafetensorError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or reason_of(error)
        raise PrunecoreError(
            f"Cannot write {shown(path)} and the files beside it: {reason}.\n"
            "Nothing was left behind."
        ) from error
    finally:
        for file in new:
            file.unlink(missing_ok=True)
        for folder in folders:
            with suppress(OSError):  # it holds the set
                folder.rmdir()
    weights_file, report_file, source_file = files
    return source_file, weights_file, report_file


def _files(path: Path) -> tuple[Path, Path, Path]:
    weights, report, source = (path.with_suffix(suffix) for suffix in SUFFIXES)
    return weights, report, source


def _beside(file: Path) -> Path:
    return file.with_name(f".{file.name}.{os.getpid()}")


def _aside(file: Path) -> Path:
    """Where an old file lies while a new one takes its place."""
    return file.with_name(f"{file.name}.old")


def _rename(new: Sequence[Path], files: Sequence[Path]) -> None:
    """Put new files in the place of old ones; the old ones come back if one cannot be."""
    done: list[tuple[Path, Path]] = []
    try:
        for source, file in zip(new, files, strict=True):
            old = _aside(source)
            if file.exists():
                file.replace(old)
            done.append((file, old))
            source.replace(file)
    except BaseException:  # an interrupt must not leave half a set either
        for file, old in done:
            if old.exists():
                old.replace(file)
            else:
                file.unlink(missing_ok=True)
        raise
    for _, old in done:
        old.unlink(missing_ok=True)
