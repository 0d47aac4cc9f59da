"""A small network in a file, and the command line."""

from __future__ import annotations

import errno
import functools
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from prunecore.cli.main import main

NETWORK = """\
from torch import nn


def small(num_classes=10, width=8):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(2 * width, num_classes),
    )
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in which a network is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NETWORK)
    return tmp_path


Write = Callable[..., Path]


@pytest.fixture
def job(folder: Path) -> Write:
    """Write a configuration: of each section, what differs from a quick job on the digits."""

    def write(file: str = "job.yaml", **sections: Any) -> Path:
        usual: dict[str, Any] = {
            "model": {"name": "net.py:small"},
            "data": {"name": "digits"},
            "train": {"epochs": 2, "optimizer": {"name": "SGD", "lr": 0.1, "momentum": 0.9}},
        }
        content = {name: {**usual.get(name, {}), **given} for name, given in sections.items()}
        (folder / file).write_text(yaml.safe_dump({**usual, **content}, sort_keys=False))
        return folder / file

    return write


def run(*arguments: object, exit_code: int = 0) -> Result:
    """A command that ends with this exit code."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result


@contextmanager
def filling(patching: pytest.MonkeyPatch, last: float = math.inf) -> Iterator[list[int]]:
    """A disk that is full once so many files have been written to it; those that were."""
    written: list[int] = []
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if len(written) >= last:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(descriptor)
        sync(descriptor)

    with patching.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield written


@pytest.fixture(name="filling")
def filling_fixture(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    return functools.partial(filling, monkeypatch)


@pytest.fixture(name="run")
def run_fixture() -> Callable[..., Result]:
    return run


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
