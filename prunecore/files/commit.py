"""A new set in the place of an old one: whoever is killed meanwhile leaves one of them whole.

Several files cannot be renamed as one, but the folder that holds them can. New files are written
into a folder of their own, `.part`, beside those that they replace. Renamed to `.whole` it is the
new set: whatever happens then, the next run moves its files to their places. What was not renamed
yet, the next run removes.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from prunecore.errors import PrunecoreError
from prunecore.escaping import shown
from prunecore.files.locks import locked
from prunecore.files.paths import is_folder
from prunecore.files.shards import INDEX, is_shard_of

# In the order in which new files are moved to their places: where the report is not there yet, no
# old file is in the place of any; where the source is, the set is whole.
_SUFFIXES = (".json", ".safetensors", INDEX, ".py")


_PART, _WHOLE, _OLD, _LOCK = ".part", ".whole", ".old", ".lock"


_RANDOM = 8  # letters that tempfile draws


def files_of(path: Path) -> list[Path]:
    """What there is of a set: its report, weights, in shards or not, and source, which is last.

    Args:
        path: of its source.
    """
    files = [path.with_suffix(suffix) for suffix in _SUFFIXES]
    shards = []
    if os.path.lexists(path.with_suffix(INDEX)):  # which goes last, and comes after its shards
        names = sorted(os.listdir(path.parent))
        shards = [path.with_name(name) for name in names if is_shard_of(name, path.stem)]
    return [file for file in [files[0], *shards, *files[1:]] if os.path.lexists(file)]


def longest_name(path: Path) -> str:
    """A name as long as the longest that is needed to write a set."""
    return max(f"{_hidden(path)}{'x' * _RANDOM}{_WHOLE}", path.with_suffix(".safetensors").name)


def lock_of(path: Path) -> Path:
    """The lock file of a set."""
    return path.with_name(f".{path.stem}{_LOCK}")


def work_folder(path: Path) -> Path:
    """Make a folder for the new files of a set, under a name that nobody can know before."""
    return Path(tempfile.mkdtemp(_PART, _hidden(path), path.parent))


def commit(part: Path, path: Path) -> None:
    """Put the new files of a set in the place of the old ones, or leave those as they were.

    Args:
        part: the folder of the new files, on the disk already. The caller removes it if it is left.
        path: of the set's source, whose lock is held.

    Raises:
        OSError: the system refuses to.
    """
    sync_folder(part)
    whole = part.with_suffix(_WHOLE)
    moves: list[tuple[Path, Path]] = []
    try:
        part.rename(whole)
        sync_folder(path.parent)
        moves = _moves(whole, path)
        for source, target in moves:
            source.replace(target)
        sync_folder(path.parent)
    except BaseException:  # an interrupt must not leave half a set either
        for source, target in reversed(moves):
            if os.path.lexists(target) and not os.path.lexists(source):
                target.replace(source)
        if whole.exists():
            whole.rename(part)
        raise
    shutil.rmtree(whole, ignore_errors=True)  # where it is still in use, the next run removes it


def recover_sets(paths: Iterable[Path]) -> None:
    """Finish or undo what killed runs have left of some sets; wait for runs that are at it.

    Args:
        paths: of their sources.

    Raises:
        PrunecoreError: the system refuses to.
    """
    hidden: dict[Path, list[str]] = {}
    for path in paths:
        folder = path.parent
        try:
            if folder not in hidden:  # once for all of them: there may be thousands
                there = os.listdir(folder) if is_folder(folder) else []
                hidden[folder] = [name for name in there if name.startswith(".")]
            if any(name.startswith(_hidden(path)) for name in hidden[folder]):
                with locked(lock_of(path)):
                    recover(path)
        except OSError as error:
            raise PrunecoreError(
                f"Cannot clear away what a killed run has left of {shown(path)}: {error.strerror}."
                f"\nRemove what begins with {shown(_hidden(path))} there."
            ) from error


def recover(path: Path) -> None:
    """Finish or undo what killed runs have left of a set.

    Args:
        path: of its source, whose lock is held: nobody else is at it.

    Raises:
        OSError: the system refuses to.
    """
    for entry in list(os.scandir(path.parent)):
        if not entry.name.startswith(_hidden(path)) or not _is_own_folder(entry):
            continue
        folder = Path(entry.path)
        if folder.suffix == _WHOLE:
            for source, target in _moves(folder, path):
                source.replace(target)
            sync_folder(path.parent)
        if folder.suffix in (_WHOLE, _PART):
            shutil.rmtree(folder)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder written to the disk, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # as file systems say that have nothing to write
            raise
    finally:
        os.close(descriptor)


def _hidden(path: Path) -> str:
    """How the names of all begin that is there while a set is written."""
    return f".{path.stem}."


def _moves(whole: Path, path: Path) -> list[tuple[Path, Path]]:
    """What is moved where: the old files out, the source first, then the new ones in."""
    new = files_of(whole / path.name)
    is_begun = whole.joinpath(path.name).with_suffix(_SUFFIXES[0]) not in new
    old = [] if is_begun else sorted(files_of(path), key=lambda file: file.suffix != ".py")
    return [
        *((file, whole / f"{file.name}{_OLD}") for file in old),
        *((file, path.with_name(file.name)) for file in new),
    ]


def _is_own_folder(entry: os.DirEntry[str]) -> bool:
    """True of a folder of this user: in one that is everyone's, others may have put theirs."""
    if not entry.is_dir(follow_symlinks=False):
        return False
    return os.name == "nt" or entry.stat(follow_symlinks=False).st_uid == os.geteuid()
