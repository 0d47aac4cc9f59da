"""The line of a user's forward that its trace has come to."""

from __future__ import annotations

import inspect
import linecache
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

LINE = "line"  # what a node's meta calls the line that it stands for
_TORCH = f"{Path(str(torch.__file__)).parent}{os.sep}"


class Line(NamedTuple):
    """A line of a file."""

    file: str
    number: int

    def __str__(self) -> str:
        """Where it is, and what it says."""
        text = linecache.getline(self.file, self.number).strip()
        return f"{self.file}:{self.number}" + (f", `{text}`" if text else "")


def file_of(forward: Callable[..., Any]) -> str | None:
    """The file that a forward is defined in; `None` where that is torch's."""
    code = getattr(inspect.unwrap(forward), "__code__", None)
    return None if code is None or code.co_filename.startswith(_TORCH) else code.co_filename


def running_line(file: str | None) -> Line | None:
    """The innermost line of a file that runs; `None` where none does."""
    frame = sys._getframe(1) if file else None
    while frame is not None:
        if frame.f_code.co_filename == file:
            return Line(file, frame.f_lineno)
        frame = frame.f_back
    return None


def is_called_by_torch() -> bool:
    """Whether the function that asks is called by torch's own code, not by a user's."""
    return sys._getframe(2).f_code.co_filename.startswith(_TORCH)


def raising_line(error: BaseException, file: str | None) -> Line | None:
    """The innermost line of a file that an error has come through; `None` without one."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [Line(frame.filename, frame.lineno or 0) for frame in frames if frame.filename == file]
    return lines[-1] if lines else None
