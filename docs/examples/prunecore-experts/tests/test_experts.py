"""The plugin is installed, and what it writes computes what the block does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import prunecore
from prunecore.cli.main import main
from prunecore.testing import check_block, check_plugin
from prunecore_experts import Experts


def test_the_hooks_answer_and_errors_name_the_plugin() -> None:
    check_plugin("experts")


@pytest.mark.parametrize("top", [1, 2])
def test_what_is_written_of_a_block_is_exact(top: int) -> None:
    check_block(Experts(8, [12, 6, 9], top=top), (8, 6, 6), traceable=False)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        Experts(16, [32, 32, 32]),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        Experts(32, [48, 48, 48, 48], top=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


@pytest.mark.parametrize("level", [20, 50, 80])
@pytest.mark.parametrize("mode", ["random", "l1-norm"])
def test_a_network_is_pruned(level: int, mode: str) -> None:
    small = prunecore.prune(network(), level=level, input_shape=(3, 16, 16), mode=mode)
    assert abs(small.report["level"]["achieved"] - level) < 1
    assert small.report["verified"]
    assert small.source.count("class Experts(nn.Module)") == 1
    assert small.model[3].top == 2


def test_the_router_is_left_whole_and_the_report_says_why() -> None:
    report = prunecore.prune(network(), level=50, input_shape=(3, 16, 16)).report
    assert report["left_whole"] == [
        {"layer": f"{path}.router", "reason": "its outputs are the experts to choose from"}
        for path in ("1", "3")
    ]


MIXTURE = """\
from prunecore_experts import Experts
from torch import nn


def network():
    return nn.Sequential(nn.Conv2d(3, 16, 3), Experts(16, [32, 16]), Experts(16, [8, 24], top=2))
"""


def test_the_command_shows_the_width_of_every_expert(tmp_path: Path) -> None:
    (tmp_path / "mixture.py").write_text(MIXTURE)
    model = f"{tmp_path / 'mixture.py'}:network"
    assert "\n  experts  From prunecore-experts " in CliRunner().invoke(main, ["--help"]).stdout
    assert CliRunner().invoke(main, ["experts", model]).stdout == "1: 32, 16\n2: 8, 24\n"
    result = CliRunner().invoke(main, ["experts", model, "--json"])
    assert json.loads(result.stdout) == {"1": [32, 16], "2": [8, 24]}


def test_the_command_says_what_is_wrong_with_its_model() -> None:
    result = CliRunner().invoke(main, ["experts", "missing.py:network"])
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert "missing.py" in result.stderr
