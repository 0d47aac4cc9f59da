"""Run the command line on one hostile case, and say what is wrong with how it ends."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from click.testing import CliRunner, Result
from safetensors.torch import load_file

from prunecore.cli.main import main

SECONDS = 10.0  # of the processor that a case may take; most take a few hundredths
PATIENCE = 60.0  # seconds until a case is taken for one that waits for ever
MEMORY = 4 << 30  # bytes that a case may take beside what the tests have taken before
LINES = 2
CHARACTERS = 2000  # of the whole message; names and values in it are shortened

# How lines begin that are no error: warnings, and what a job says of a network.
NOTES = ("Warning: ", "Left whole: ", "Left out: ", "Skipped ", "No plugin ", "Try it: ")

FOLDER, FIFO, LOOP, NOWHERE, ENDLESS = "folder", "fifo", "loop", "nowhere", "endless"
Content = bytes | str  # of a file, or one of the above


@dataclass(frozen=True)
class Case:
    """One call of the command line.

    Attributes:
        arguments: after `prunecore`.
        files: what lies in the folder that it runs in, by name.
        environment: variables that it sees.
    """

    arguments: tuple[str, ...]
    files: Mapping[str, Content] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class End:
    """How a case ends.

    Attributes:
        exit_code: of the command line, where it came to its end.
        fault: what is wrong: a traceback, a long message, a file where none may be; `None` where
            all is as it should be.
    """

    exit_code: int | None
    fault: str | None


class TooLong(BaseException):
    """Raised in the middle of a case that takes longer than it may."""


def run(case: Case, folder: Path) -> End:
    """Run a case, and say how it ends.

    Args:
        case: the case.
        folder: an empty one, which is as empty afterwards.
    """
    inside = folder / "inside"
    inside.mkdir()
    lay_out(inside, case.files)
    alarms: list[str] = []
    before = list(sys.path)
    start = time.process_time()
    try:
        with watched(inside) as seen, _within(inside), bounded(alarms):
            result = CliRunner(env=dict(case.environment)).invoke(main, case.arguments)
            broken = [*_not_finite(case)] if result.exit_code == 0 else []
    except TooLong:
        return End(None, f"stopped after {PATIENCE} s at {''.join(alarms)}")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # what the runner lets through
        return End(None, "".join(traceback.format_exception(error)))
    finally:
        sys.path[:] = before
        beside = [path.name for path in folder.iterdir() if path != inside]
        hidden = [path.name for path in inside.rglob(".*")] if inside.is_dir() else []
        shutil.rmtree(folder)
        folder.mkdir()
    touched = [*seen, *beside, *hidden]
    taken = time.process_time() - start
    fault = _fault_of_end(result)
    if alarms:
        fault = f"caught the alarm after {PATIENCE} s at {''.join(alarms)}"
    elif touched:
        fault = f"touched {touched}"
    elif taken > SECONDS:
        fault = f"took {taken:.0f} s"
    elif broken:
        fault = f"wrote what is not finite: {broken}"
    return End(result.exit_code, fault)


def _not_finite(case: Case) -> Iterator[str]:
    """The tensors that are not finite in what was written; a buffer alone may be infinite."""
    for file in Path().rglob("*_*.safetensors"):
        if file.name not in case.files:
            for name, tensor in load_file(file).items():
                may_be = name in ("scale", "mask")
                if tensor.isnan().any() or not (may_be or tensor.isfinite().all()):
                    yield name


def _fault_of_end(result: Result) -> str | None:
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return "".join(traceback.format_exception(result.exception))
    if result.exit_code not in (0, 1, 2):
        return f"ended with {result.exit_code}"
    notes, error, message = f"\n{result.stderr}".rpartition("\nError: ")
    odd = [line for line in notes.splitlines() if line and not line.startswith(NOTES)]
    if odd:
        return f"said beside its error: {odd[:5]}"
    if bool(error) != bool(result.exit_code):
        return f"ended with {result.exit_code}, saying {result.output!r}"
    lines = message.split("\n")[:-1]
    if error and (len(lines) > LINES or len(message) > CHARACTERS or not all(lines)):
        return f"said {len(message)} characters in {len(lines)} lines: {message[:3000]!r}"
    if error and not all(line.isprintable() for line in lines):
        return f"said what cannot be shown: {message!r}"
    return None


def lay_out(folder: Path, files: Mapping[str, Content]) -> None:
    """Put files into a folder, or what is no file by a file's name."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content == FOLDER:
            path.mkdir()
        elif content == FIFO:
            os.mkfifo(path)
        else:
            path.symlink_to({LOOP: path.name, NOWHERE: "none", ENDLESS: "/dev/zero"}[content])


@contextlib.contextmanager
def _within(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def bounded(alarms: list[str]) -> Iterator[None]:
    """Interrupt what takes too long, and let nothing have more than so much memory."""

    def stop(_: int, frame: FrameType | None) -> None:
        alarms.append("".join(traceback.format_stack(frame)[-4:]))
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    faulthandler.dump_traceback_later(3 * PATIENCE, exit=True)  # from where no signal is heard
    limit, writes_none = sys.getrecursionlimit(), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")  # a warning is a line beside the error
            yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        sys.setrecursionlimit(limit)
        sys.dont_write_bytecode = writes_none


_watch: dict[str, Any] = {}  # the folder that may be written in, and what else was touched


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[list[str]]:
    """Collect what is written outside of a folder, and programs and connections that are opened."""
    seen: list[str] = []
    if not _watch:
        sys.addaudithook(_note)
    _watch.update(folder=str(folder), seen=seen)
    try:
        yield seen
    finally:
        _watch.update(folder=None)


_OPENING = {"subprocess.Popen", "os.system", "os.exec", "os.fork", "socket.connect"}
_CHANGING = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.chmod"}
# The first is `tempfile`'s own; the second the cache that torch makes once on a machine.
_TEMPORARY = ("tmp", "torchinductor_")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in _OPENING | _CHANGING | {"open"} or _watch["folder"] is None:
        return
    if event == "open" and (not arguments[2] & _WRITING or isinstance(arguments[0], int)):
        return
    place = os.path.abspath(os.fsdecode(arguments[0])) if event not in _OPENING else ""
    beginnings = [os.path.join(tempfile.gettempdir(), name) for name in _TEMPORARY]
    if not f"{place}{os.sep}".startswith((_watch["folder"] + os.sep, *beginnings)):
        _watch["seen"].append(f"{event} {arguments[0]}")
