"""Source lines of a user's forward: where its trace has come to, and what it calls its values."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

from torch import Tensor, fx

from prunecore.errors import Line
from prunecore.isolation.state import TORCH

_TRACE = fx.Tracer.trace.__code__

LINE = "line"  # what a node's meta calls the line that it stands for


def file_of(forward: Callable[..., Any]) -> str | None:
    """The file that a forward is defined in; `None` where that is torch's."""
    code = getattr(inspect.unwrap(forward), "__code__", None)
    return None if code is None or code.co_filename.startswith(TORCH) else code.co_filename


def running_line(file: str | None) -> Line | None:
    """The innermost line of a file that is being traced; `None` where none is.

    The file may be that of whoever asked for the trace, too.
    """
    frame = sys._getframe(1) if file else None
    while frame is not None and frame.f_code is not _TRACE:
        if frame.f_code.co_filename == file:
            return Line(file, frame.f_lineno)
        frame = frame.f_back
    return None


def is_called_by_torch() -> bool:
    """True if the function that asks is called by torch's own code, not by a user's."""
    return sys._getframe(2).f_code.co_filename.startswith(TORCH)


def raising_line(error: BaseException, file: str | None) -> Line | None:
    """The innermost line of a file that an error has come through; `None` without one."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [Line(frame.filename, frame.lineno or 0) for frame in frames if frame.filename == file]
    return lines[-1] if lines else None


NAMES = "names"  # what a node's meta calls the variables that hold it, the first one first


class LocalNames:
    """Notes in a trace's nodes which variables of the forward hold them.

    Args:
        file: that the forward is defined in; functions of other files have names of their own.
    """

    def __init__(self, file: str | None) -> None:
        self._file = file
        self._frames: list[FrameType] = []  # of the forward and of what it has called, in order

    def note(self) -> None:
        """Look at the variables of what is running; afterwards, at those that it has ended with."""
        self._frames = _running(self._file) or self._frames
        for frame in self._frames:
            for name, value in frame.f_locals.items():
                if isinstance(value, fx.Proxy):
                    held = vars(value)
                    _add(held.get("node", held.get("_node")), name)  # once it is used, if it is

    def note_made(self, node: fx.Node, made: Tensor) -> None:
        """Look for the variables that hold a tensor which a node makes."""
        for frame in self._frames:
            for name, value in frame.f_locals.items():
                if value is made:
                    _add(node, name)

    def end(self) -> None:
        """Look at what the forward has ended with, and let go of it."""
        self.note()
        self._frames = []


def _running(file: str | None) -> list[FrameType]:
    """The frames of a file's functions that are traced, the outermost first."""
    frames: list[FrameType] = []
    frame = sys._getframe(2) if file else None
    while frame is not None and frame.f_code is not _TRACE:
        if frame.f_code.co_filename == file:
            frames.insert(0, frame)
        frame = frame.f_back
    return frames


def _add(node: fx.Node | None, name: str) -> None:
    """Note that a variable holds what a node computes, where there is one already."""
    if node is not None and name not in node.meta.get(NAMES, ()):
        node.meta[NAMES] = (*node.meta.get(NAMES, ()), name)
