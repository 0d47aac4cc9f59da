"""A small network in a file, a job of a few cells, and the command line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from prunecore.cli.main import main

NETWORK = """\
from torch import nn


def small(num_classes=10):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, num_classes)
    )
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in which a network is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    (tmp_path / "net.py").write_text(NETWORK)
    return tmp_path


@pytest.fixture
def job(folder: Path) -> Callable[..., Path]:
    """Write a configuration: of each section, what differs from two cells that train an epoch."""

    def write(**sections: Any) -> Path:
        usual: dict[str, Any] = {
            "model": {"name": "net.py:small"},
            "data": {"name": "digits"},
            "train": {"epochs": 1},
            "adapt": {"finetune_epochs": 1},
            "sweep": {"levels": [30, 60]},
        }
        content = {name: {**usual.get(name, {}), **given} for name, given in sections.items()}
        file = folder / "job.yaml"
        file.write_text(yaml.safe_dump({**usual, **content}, sort_keys=False))
        return file

    return write


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run a command, which ends with this exit code."""

    def command(*arguments: object, exit_code: int = 0) -> Result:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == exit_code, result.output
        return result

    return command
