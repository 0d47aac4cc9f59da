"""Jobs in several threads, and what other threads notice of them: nothing."""

from __future__ import annotations

import builtins
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.fx import _symbolic_trace

import prunecore

from .conftest import randomised

pytestmark = pytest.mark.usefixtures("toys_installed")


class Asking(nn.Module):
    """Asks what its input is, reads torch's default type, and draws while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 12)
        self.b = nn.Linear(12, 10)
        self.c = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError("a tensor is wanted")
        x = torch.relu(self.a(x)) + torch.zeros(12)
        return self.c(torch.relu(self.b(x)) * torch.tensor(0.5))


class Fails(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Tensor):
            raise RuntimeError("on purpose")
        return self.a(x)


def process() -> list[Any]:
    """All of the process that a job, or `torch.fx`, might leave otherwise."""
    return [
        builtins.isinstance,
        nn.Module.__call__,
        nn.Module.__getattr__,
        vars(torch.autograd.Function)["apply"],
        torch.zeros,
        torch.backends.mha.get_fastpath_enabled,
        torch.backends.mha.get_fastpath_enabled(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        fx.Tracer.trace,
        _symbolic_trace._Patcher,
        random.getstate(),
        repr(np.random.get_state()),
        torch.get_rng_state().tolist(),
    ]


def job(seed: int) -> tuple[str, dict[str, bytes]]:
    """The bytes of what is written."""
    torch_state = torch.Generator().manual_seed(seed)
    model = randomised(Asking())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=torch_state))
    small = prunecore.prune(model, torch.ones(2, 4), 40, mode="random", seed=seed)
    return small.source, {key: x.numpy().tobytes() for key, x in small.weights.items()}


def test_the_process_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    model = randomised(Asking())
    before, weights = process(), {key: x.clone() for key, x in model.state_dict().items()}
    small = prunecore.prune(model, torch.ones(2, 4), 40)
    assert small.report["verified"]
    assert process() == before
    assert list(model.state_dict()) == list(weights)
    assert all(torch.equal(x, weights[key]) for key, x in model.state_dict().items())


def test_the_process_is_as_before_an_error() -> None:
    model, before = Fails(), process()
    with pytest.raises(prunecore.PrunecoreError, match="on purpose"):
        prunecore.prune(model, torch.ones(2, 4), 40)
    assert process() == before


def test_jobs_in_threads_give_the_bytes_that_each_gives_alone() -> None:
    alone = [job(seed) for seed in range(4)]
    before = process()[:-1]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(job, range(4)))
    assert together == alone
    assert process()[:-1] == before


def test_a_thread_that_serves_notices_nothing() -> None:
    layer, attention = nn.Linear(4, 4), nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
    attention.eval()
    image, tokens = torch.rand(2, 4), torch.rand(1, 3, 8)
    with torch.no_grad():
        expected, attended = layer(image), attention(tokens)
    stop, wrong, served = threading.Event(), list[str](), 0

    def serve(check: Callable[[], bool], name: str) -> None:
        try:
            if not check():
                wrong.append(name)
        except Exception as error:  # whatever a patched torch raises in this thread
            wrong.append(f"{name}: {error!r}")

    def loop() -> None:
        nonlocal served
        while not stop.is_set():
            with torch.no_grad():
                serve(lambda: torch.equal(layer(image), expected), "Linear")
                serve(lambda: torch.equal(attention(tokens), attended), "attention")
            serve(lambda: torch.zeros(2).dtype is torch.float32, "zeros")
            serve(lambda: torch.tensor(0.5).dtype is torch.float32, "tensor")
            serve(lambda: torch.empty(2).device.type == "cpu", "device")
            serve(lambda: isinstance(image, Tensor) and not isinstance(image, nn.Module), "isa")
            serve(torch.backends.mha.get_fastpath_enabled, "fast path")
            served += 1

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        jobs = [job(seed) for seed in range(3)]
    finally:
        stop.set()
        thread.join()
    assert len(jobs) == 3
    assert served > 3
    assert wrong == []


def test_a_thread_that_traces_itself_is_right() -> None:
    layer = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    expected = [str(node) for node in fx.symbolic_trace(layer).graph.nodes]
    stop, graphs = threading.Event(), list[list[str]]()

    def loop() -> None:
        while not stop.is_set() or not graphs:
            graphs.append([str(node) for node in fx.symbolic_trace(layer).graph.nodes])

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        jobs = [job(seed) for seed in range(2)]
    finally:
        stop.set()
        thread.join()
    assert [text for text, _ in jobs] == [text for text, _ in map(job, range(2))]
    assert all(graph == expected for graph in graphs)
