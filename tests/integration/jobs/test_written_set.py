"""The three files of a set: the same bytes for the same job, and of use without prunecore."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import prunecore

from ..networks import network


@pytest.fixture
def threads() -> Iterator[None]:
    """Put the number of threads back when the test has changed it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def files(folder: Path, name: str, mode: str) -> dict[str, bytes]:
    side = 64 if name == "alexnet" else 32
    small = prunecore.prune(
        network(name), level=50, input_shape=(3, side, side), mode=mode, name="net"
    )
    saved = small.save(folder / "net_50.py")
    return {file.suffix: file.read_bytes() for file in saved}


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", ["functional", "resnet20_lambda", "resnet18"])
@pytest.mark.parametrize("mode", ["random", "l1-norm"])
def test_the_same_job_writes_the_same_bytes_with_any_number_of_threads(
    tmp_path: Path, name: str, mode: str
) -> None:
    written = []
    for run, count in enumerate((1, 1, 2)):
        torch.set_num_threads(count)
        written.append(files(tmp_path / str(run), name, mode))
    assert set(written[0]) == {".py", ".safetensors", ".json"}
    assert written[0] == written[1]
    assert written[0] == written[2]


ELSEWHERE = """
import sys

for name in ("prunecore", "prunecore_sequential", "prunecore_resnet", "torchvision"):
    sys.modules[name] = None  # importing it raises

import torch
from net_50 import net
from safetensors.torch import load_file

given = load_file("given.safetensors")
small = net(weights="net_50.safetensors").eval()
assert small.state_dict().keys() == load_file("net_50.safetensors").keys()
with torch.no_grad():
    torch.testing.assert_close(small(given["x"]), given["y"], rtol=0, atol=0)
print("the same")
"""


@pytest.mark.parametrize("name", ["resnet18", "functional"])
def test_a_written_network_runs_where_prunecore_is_not(tmp_path: Path, name: str) -> None:
    small = prunecore.prune(network(name), level=50, input_shape=(3, 32, 32), name="net")
    small.save(tmp_path / "net_50.py")
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        y = small.model.eval()(x)
    save_file({"x": x, "y": y}, tmp_path / "given.safetensors")
    line = [sys.executable, "-c", f"import torch; torch.set_num_threads(1)\n{ELSEWHERE}"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "the same\n", done.stderr
