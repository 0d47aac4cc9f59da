"""What onnxruntime runs is the network; how long it takes is the machine's affair."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

import prunecore
from prunecore.latency import timing
from prunecore.plugin import PluginError
from prunecore.plugins.loading import load
from prunecore_onnx import onnxruntime


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(5, 4)

    def forward(self, x: Tensor, unread: Tensor, *, scale: Tensor, shift: Tensor) -> Tensor:
        return self.first(x) * scale + self.second(shift)


def test_onnxruntime_answers_as_the_network_does():
    network = Several().eval()
    args = torch.rand(2, 3), torch.rand(2, 7)
    kwargs = {"shift": torch.rand(2, 5), "scale": torch.rand(2, 4)}  # not in the forward's order
    (answer,) = onnxruntime(network, args, kwargs)()
    torch.testing.assert_close(torch.from_numpy(answer), network(*args, **kwargs).detach())
    assert not network.training


def test_batch_norms_run_in_eval_mode_and_stay_as_they_are():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    x = torch.rand(1, 3, 8, 8)
    (answer,) = onnxruntime(network, [x], {})()
    torch.testing.assert_close(torch.from_numpy(answer), network(x).detach())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_the_plugin_is_loaded_without_onnx():
    code = (
        "import sys; from prunecore.plugins.loading import load; load();"
        "print(*sys.modules.keys() & {'prunecore_onnx', 'onnx', 'onnxruntime'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["prunecore_onnx"]


def test_it_is_a_backend_by_name():
    assert "onnxruntime" in load().latency_backends


def test_a_network_is_written_that_is_as_fast_as_asked(monkeypatch):
    """The clock is made up: it goes on by the weights of what onnxruntime runs."""
    now = [0.0]
    sizes = []

    def timed(network, args, kwargs):
        run = onnxruntime(network, args, kwargs)
        sizes.append(sum(tensor.numel() for tensor in network.parameters()))
        size = sizes[-1]

        def count():
            now[0] += 1e-6 * size
            return run()

        return count

    (plugin,) = (plugin for plugin in load().all if plugin.name == "onnx")
    monkeypatch.setattr(timing, "perf_counter", lambda: now[0])
    monkeypatch.setitem(plugin.latency_backends, "onnxruntime", timed)
    network = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 8, 3), nn.Flatten())
    small = prunecore.prune(
        network, torch.rand(1, 3, 8, 8), level=40, target="latency", latency="onnxruntime"
    )
    assert small.report["latency"]["backend"] == "onnxruntime"
    assert small.report["level"]["achieved"] == pytest.approx(40, abs=3)


class Odd(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sinc(x)


def test_what_cannot_be_exported_is_said(capsys):
    network = nn.Sequential(nn.Linear(3, 8), Odd(), nn.Linear(8, 2))
    with pytest.raises(PluginError, match=r"the latency backend onnxruntime raised \w+Error: "):
        prunecore.prune(
            network, torch.rand(1, 3), level=40, target="latency", latency="onnxruntime"
        )
    assert capsys.readouterr().out == ""
