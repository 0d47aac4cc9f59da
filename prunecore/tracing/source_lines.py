"""Source lines of a user's forward: where its trace has come to, and what it calls its values."""

from __future__ import annotations

import ast
import dis
import functools
import inspect
import linecache
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from torch import Tensor, fx

from prunecore.errors import Line
from prunecore.isolation.state import TORCH

_HERE = f"{Path(__file__).parent}{os.sep}"

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


def may_stand_in(variables: Mapping[str, Any], name: str) -> bool:
    """True if something else may stand for a function of Python's own while a module's code runs.

    Not in torch's own code. A type is left alone where the code may do more with it than call it:
    `type(x) is int` would no longer hold.

    Args:
        variables: of the module.
        name: of the function.
    """
    file = str(variables.get("__file__") or "")
    if name in variables or file.startswith(TORCH):
        return False
    return name not in ("float", "int") or name in _only_called(file)


def asked_to_choose() -> list[tuple[dict[str, Any], str]]:
    """The variables of the user's code, with which of `max` and `min` it may call of stand-ins.

    One of them compares where a stand-in is asked which way to go while the code calls something.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith((TORCH, _HERE)):
        frame = frame.f_back
    if frame is None:
        return []
    calls = dis.opname[frame.f_code.co_code[frame.f_lasti]].startswith("CALL")
    named = [name for name in ("max", "min") if calls and name in frame.f_code.co_names]
    return [(frame.f_globals, name) for name in named if may_stand_in(frame.f_globals, name)]


@functools.lru_cache(256)
def _only_called(file: str) -> frozenset[str]:
    """The names that a file only calls, or asks for by `isinstance`, if it can be read."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError, RecursionError):
        return frozenset()
    used = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    fine = {id(call.func) for call in calls}
    for call in calls:
        if isinstance(call.func, ast.Name) and call.func.id in ("isinstance", "issubclass", "map"):
            fine |= {id(node) for argument in call.args for node in ast.walk(argument)}
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            said = getattr(node, field, None)
            fine |= {id(part) for part in ast.walk(said)} if said else set()
    return frozenset(node.id for node in used) - {node.id for node in used if id(node) not in fine}


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
