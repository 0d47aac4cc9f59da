"""The commands with the families installed: real networks, real files."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import load_file

from prunecore.cli.main import main

NETS = """
import torch
from torch import nn

class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.conv(x) + x)

def net(width=8, classes=4):
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.ReLU(), Residual(width), nn.Conv2d(width, 6, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes),
    )

class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        if x.sum() > 0:
            x = -x
        return self.conv(x)

def no_layer():
    return nn.Sequential(nn.ReLU())

def output_alone():
    return nn.Sequential(nn.Conv2d(3, 4, 1))
"""

Invoke = Callable[[str], Result]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run the command line in a folder with nets.py."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS, encoding="utf-8")
    return lambda line: CliRunner().invoke(main, line.split())


def test_a_network_of_one_s_own_from_file_to_files(invoke: Invoke) -> None:
    result = invoke("prune nets.py:net --level 50 --level 30 --input-shape 3,16,16 --output out")
    assert result.exit_code == 0, result.output
    report = json.loads(Path("out/net_50.json").read_text())
    weights = load_file("out/net_50.safetensors")
    assert sum(tensor.numel() for tensor in weights.values()) == report["after"]["params"]
    for name, axes in report["kept"].items():
        for axis, kept in enumerate(axes):
            assert kept is None or len(kept) == weights[name].shape[axis]
    assert {"layers": ["0", "2.conv"], "channels": [8, 5]} in report["groups"]
    assert report["verified"]["max_relative_difference"] < 1e-9
    written = runpy.run_path("out/net_50.py")["net"](weights="out/net_50.safetensors")
    assert written(torch.zeros(1, 3, 16, 16)).shape == (1, 4)


def test_the_same_job_writes_the_same_bytes(invoke: Invoke) -> None:
    for output in ("a", "b"):
        job = f"prune nets.py:net --level 50 --input-shape 3,16,16 --output {output}"
        assert invoke(job).exit_code == 0
    for file in Path("a").iterdir():
        assert file.read_bytes() == Path("b", file.name).read_bytes()


def test_verify_holds_for_what_was_written_and_fails_for_another_network(invoke: Invoke) -> None:
    shape = "--input-shape 3,16,16"
    assert invoke(f"prune nets.py:net --level 50 {shape}").exit_code == 0
    result = invoke(f"verify net_50.py nets.py:net {shape}")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("net_50.py computes what nets.py:net does")
    other = invoke(f"verify net_50.py nets.py:net {shape} --seed 1")
    assert other.exit_code == 1
    assert other.stderr.startswith("Error: ")
    assert other.stdout == ""


def test_inspect_shows_layers_and_changes_nothing(invoke: Invoke) -> None:
    result = invoke("inspect nets.py:net --input-shape 3,16,16 --model-arg width=10")
    assert result.exit_code == 0, result.output
    assert "2.conv   Conv2d       0         10          10" in result.stdout
    assert [file.name for file in Path().iterdir() if file.suffix] == ["nets.py"]


def test_inspect_as_json(invoke: Invoke) -> None:
    inspection = json.loads(invoke("inspect nets.py:net --input-shape 3,16,16 --json").stdout)
    assert inspection["params"] == sum(layer["params"] for layer in inspection["layers"])
    assert inspection["macs"] == sum(layer["macs"] for layer in inspection["layers"])
    assert inspection["groups"][0] == {"layers": ["0", "2.conv"], "channels": 8, "removable": 8}
    assert inspection["groups"][-1] == {"layers": ["6"], "channels": 4, "removable": 0}


@pytest.fixture
def photographs(tmp_path: Path) -> None:
    """A folder of images, of which one cannot be read."""
    (tmp_path / "photographs").mkdir()
    random = np.random.default_rng(0)
    for number in range(12):
        pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photographs/{number}.png")
    (tmp_path / "photographs/broken.png").write_bytes(b"no image")


@pytest.mark.usefixtures("photographs")
def test_inspect_shows_how_much_each_group_matters(invoke: Invoke) -> None:
    asked = "inspect nets.py:net --input-shape 3,16,16 --sensitivity --calibrate photographs"
    shown = invoke(f"{asked} --picture out.svg")
    assert shown.exit_code == 0, shown.output
    assert "0 and 1 more           8" in shown.stdout
    assert "Wrote out.svg." in shown.stdout
    assert "Warning: 1 calibration images cannot be read: left out." in shown.stderr
    assert "<svg" in Path("out.svg").read_text()
    found = json.loads(invoke(f"{asked} --json").stdout)["sensitivity"]
    assert (found["images"], found["held_back"]) == (8, 4)
    assert [group["layers"] for group in found["groups"]] == [["0", "2.conv"], ["3"]]
    assert [group["group"] for group in found["groups"]] == [0, 1]


@pytest.mark.usefixtures("photographs")
def test_nothing_is_drawn_of_a_network_without_channels_that_may_go(invoke: Invoke) -> None:
    asked = "inspect nets.py:output_alone --input-shape 3,16,16 --sensitivity"
    result = invoke(f"{asked} --calibrate photographs --picture out.png")
    assert result.exit_code == 1
    assert "no channel that may go" in result.stderr
    assert not Path("out.png").exists()


def test_inception_is_inspected_at_its_own_input_size(invoke: Invoke) -> None:
    inspection = json.loads(invoke("inspect inception_v3 --json").stdout)
    assert inspection["input_shape"] == [3, 299, 299]
    assert inspection["left_out"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nets.py:net --input-shape 1,16,16", r"0 (Conv2d) cannot take a tensor of shape (1, 16"),
        ("nets.py:net --input-shape 3", "0 (Conv2d) cannot take a tensor of shape (3,)"),
        (
            "nets.py:net --input-shape 3,16,16 --input-shape 3",
            "The network (Sequential) cannot be called with 2 input(s)",
        ),
        ("nets.py:net --level 99", "Level 99 cannot be reached: at most"),
        ("nets.py:Branching", "(Branching): its forward cannot be traced"),
        ("nets.py:no_layer", "The network has no prunable layer"),
        ("nets.py:output_alone", "The network has no channel that may go"),
    ],
)
def test_a_job_that_cannot_be_done_ends_with_1(
    invoke: Invoke, arguments: str, message: str
) -> None:
    shape = "" if "--input-shape" in arguments else "--input-shape 3,16,16"
    result = invoke(f"prune --level 50 {shape} --output out {arguments}")
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.startswith("Error: ") or "--level 99" in arguments
    assert len(result.stderr[result.stderr.index("Error: ") :].splitlines()) == 2
    assert "99" in arguments or not Path("out").exists()


def test_the_installed_command_ends_with_the_exit_code(tmp_path: Path) -> None:
    code = "import sys; from prunecore.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "plugins", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "prunecore-sequential" in done.stdout
    assert "BasicBlock, Bottleneck" in done.stdout
