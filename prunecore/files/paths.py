"""What lies at a path, found without opening it, and the text that a file holds."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from prunecore.errors import UsageError
from prunecore.escaping import shown


def check_path(path: Path) -> Path:
    """A path, if it can be one: whether something lies there is not asked.

    Raises:
        UsageError: it holds a null byte, or what is no Unicode text.
    """
    text = str(path)
    if "\0" in text:
        raise UsageError(f"{shown(path)} cannot be a path: it holds a null byte.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{shown(path)} holds bytes that are no text in UTF-8.\n"
            "Rename it, or run prunecore in its folder and give a relative path."
        ) from error
    return path


def is_file(path: Path) -> bool:
    """True if a regular file lies there: one that can be read to its end.

    Raises:
        UsageError: it cannot be a path, or cannot be reached.
    """
    return stat.S_ISREG(_mode(path))


def is_folder(path: Path) -> bool:
    """True if a folder lies there.

    Raises:
        UsageError: it cannot be a path, or cannot be reached.
    """
    return stat.S_ISDIR(_mode(path))


def is_there(path: Path) -> bool:
    """True if anything lies there.

    Raises:
        UsageError: it cannot be a path, or cannot be reached.
    """
    return _mode(path) != 0


def _mode(path: Path) -> int:
    """The mode of what lies at a path, 0 where nothing does."""
    try:
        return os.stat(check_path(path)).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise UsageError(f"Cannot reach {shown(path)}: {error.strerror}.") from error


def read_text(file: Path, most: int) -> str:
    """What a file holds, as text.

    Args:
        file: of text in UTF-8.
        most: bytes that it may hold.

    Raises:
        UsageError: there is no such file, or it cannot be read, is too large, or is no such text.
    """
    if not is_file(file):
        what = "it is no regular file" if is_there(file) else "no such file"
        raise UsageError(f"Cannot read {shown(file)}: {what}.")
    try:
        with file.open("rb") as opened:
            content = opened.read(most + 1)
    except OSError as error:
        raise UsageError(f"Cannot read {shown(file)}: {error.strerror}.") from error
    if len(content) > most:
        raise UsageError(f"{shown(file)} holds more than the {most:,} bytes that are read.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{shown(file)} is not a text file in UTF-8.") from error
