"""A lock of what is being written, between threads and between processes."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prunecore.errors import PrunecoreError
from prunecore.escaping import shown

PATIENCE = 600.0  # seconds: other threads and processes only write to the disk under a lock


_PAUSE = 0.02  # seconds between two attempts


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a lock: a file that is there as long, and that a killed process leaves unlocked.

    Args:
        file: the lock file; its folder exists.

    Raises:
        PrunecoreError: others held it all the time.
        OSError: the file cannot be made, or a symbolic link lies there.
    """
    descriptor = _lock(file)
    try:
        yield
    finally:
        _release(descriptor, file)


def _lock(file: Path) -> int:
    end = time.monotonic() + PATIENCE
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            if _has_locked(descriptor) and _is_still(descriptor, file):
                return descriptor
        except BaseException:  # an interrupt must not leave it open
            os.close(descriptor)
            raise
        os.close(descriptor)
        if time.monotonic() > end:
            raise PrunecoreError(
                f"Another process or thread has held {shown(file)} for {PATIENCE:.0f} s.\n"
                "Wait until it is done, or end it."
            )
        time.sleep(_PAUSE)


def _is_still(descriptor: int, file: Path) -> bool:
    """True if the locked file is the one at its path: whoever held it before has removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(file))
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _has_locked(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _release(descriptor: int, file: Path) -> None:
        os.close(descriptor)
        with suppress(OSError):  # somebody else has it open, and removes it
            file.unlink()

else:
    import fcntl

    # Of file systems that have no locks: only one process at a time can write there.
    _NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)

    def _has_locked(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        return True

    def _release(descriptor: int, file: Path) -> None:
        with suppress(FileNotFoundError):  # somebody has removed the whole folder
            file.unlink()  # before it is unlocked: whoever opened it sees that it is gone
        os.close(descriptor)
