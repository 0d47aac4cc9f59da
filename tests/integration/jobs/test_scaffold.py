"""A project from `prunecore plugins new` is installed, and its own tests pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from prunecore.cli.main import main

BLOCKS = """\
import torch
from torch import nn
from torchvision.ops import Conv2dNormActivation, SqueezeExcitation


class Block(nn.Module):
    def __init__(self, channels, width, groups=1):
        super().__init__()
        self.expand = Conv2dNormActivation(channels, width, 3, groups=groups)
        self.side = nn.Conv2d(channels, 6, 1)
        self.attend = SqueezeExcitation(width, 4)
        self.merge = nn.Conv2d(width + 6, channels, 1)
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x):
        out = torch.cat([self.attend(self.expand(x)), self.side(x)], dim=1)
        return torch.relu(x + self.scale * self.merge(out))
"""
OWN = ["--block", "own_blocks:Block", "--model-arg", "channels=8", "--model-arg", "width=12"]

ASPP = [
    "--model-arg=in_channels=8",
    "--model-arg=atrous_rates=[2, 3]",
    "--model-arg=out_channels=6",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_blocks.py").write_text(BLOCKS)
    sys.modules.pop("own_blocks", None)
    yield tmp_path
    sys.modules.pop("own_blocks", None)


def run_tests(project: Path) -> str:
    """Run a project's tests in a process that finds it as if it were installed."""
    pyproject = (project / "pyproject.toml").read_text()
    name = re.search(r"^\[project.entry-points.prunecore\]\n(.*) = ", pyproject, re.MULTILINE)
    assert name is not None
    module = f"prunecore_{name[1].replace('-', '_')}"
    metadata = project / f"src/{module}-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: {project.name}\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text(f"[prunecore]\n{name[1]} = {module}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", project],
        env={**os.environ, "PYTHONPATH": str(project / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "options",
    [
        [],
        OWN,
        [*OWN, "--model-arg", "groups=4", "--input-shape", "8,5,5"],
        ["--block", "torchvision.models.segmentation.deeplabv3:ASPP", *ASPP],
    ],
    ids=["example", "block", "groups", "torchvision"],
)
def test_a_new_project_passes_its_own_tests(folder: Path, options: list[str]) -> None:
    result = CliRunner().invoke(main, ["plugins", "new", "my-own", *options])
    assert result.exit_code == 0, result.output
    assert "2 passed" in run_tests(folder / "prunecore-my-own")
