"""Files that are written as a whole, and what is told where that cannot be."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prunecore.errors import PrunecoreError, UsageError
from prunecore.escaping import shown
from prunecore.files.paths import is_folder, is_there

_KEPT = "See that it can be written there, and start again: what was done until then is kept."


def write(file: Path, content: bytes | memoryview) -> None:
    """Write a file as a whole, or leave what was there.

    Raises:
        PrunecoreError: the system refuses to.
    """
    # cells of a sweep may write the same file at once
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        part.replace(file)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise PrunecoreError(f"Cannot write {shown(file)}: {error.strerror}.\n{_KEPT}") from error


def check_folder(folder: Path) -> None:
    """Refuse a folder that nothing can be written to, before there is anything to write.

    Raises:
        UsageError: it is none, or belongs to others.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if is_there(place))
    if not is_folder(there) or not os.access(there, os.W_OK):
        raise UsageError(f"Nothing can be written to {shown(folder)}.\nGive another --output.")


@contextmanager
def resumable() -> Iterator[None]:
    """Say of a set that cannot be written what comes of the job."""
    try:
        yield
    except PrunecoreError as error:
        if not isinstance(error.__cause__, OSError):
            raise
        raise PrunecoreError(f"{str(error).splitlines()[0]}\n{_KEPT}") from error
