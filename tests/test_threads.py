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
from torch.utils import _device, _python_dispatch

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


class Drawing(Asking):
    """Draws by the functions of Python's and NumPy's modules, and of torch."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x)) * (random.random() + np.random.rand())
        return self.c(torch.relu(self.b(x + torch.rand(12))))


class Training(Asking):
    """Does something else in training."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x))
        if self.training:
            x = nn.functional.dropout(x, 0.3, True)
        return self.c(torch.relu(self.b(x)))


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
        random.random,
        np.random.rand,
        _device.CURRENT_DEVICE,
        _python_dispatch.is_in_torch_dispatch_mode(),
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


def network(seed: int, kind: type[nn.Module] = Asking) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):  # no number is drawn
        model = kind().to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator))
    return model


def job(seed: int, kind: type[nn.Module] = Asking) -> tuple[str, dict[str, bytes]]:
    """The bytes of what is written."""
    model = network(seed, kind)
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


@pytest.mark.parametrize("kind", [Asking, Drawing, Training])
def test_jobs_in_threads_give_the_bytes_that_each_gives_alone(kind: type[nn.Module]) -> None:
    alone = [job(seed, kind) for seed in range(4)]
    before = process()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(job, range(4), [kind] * 4))
    assert together == alone
    assert process() == before


def test_a_thread_that_serves_notices_nothing() -> None:
    layer, attention = nn.Linear(4, 4), nn.TransformerEncoderLayer(8, 2, 8, batch_first=True).eval()
    image, tokens, isinstance_ = torch.rand(2, 4), torch.rand(1, 3, 8), builtins.isinstance
    pruned = network(0)
    with torch.no_grad():
        expected, attended, served_alone = layer(image), attention(tokens), pruned(image)

    def on_meta() -> bool:
        with torch.device("meta"):
            return torch.zeros(2).is_meta

    checks: dict[str, Callable[[], bool]] = {
        "a layer": lambda: torch.equal(layer(image), expected),
        "attention": lambda: torch.equal(attention(tokens), attended),
        "the network that is pruned": lambda: torch.equal(pruned(image), served_alone),
        "a new layer": lambda: nn.Linear(2, 2, device="meta").weight.dtype is torch.float32,
        "the type of zeros": lambda: torch.zeros(2).dtype is torch.float32,
        "the type of a number": lambda: torch.tensor(0.5).dtype is torch.float32,
        "the default type": lambda: torch.get_default_dtype() is torch.float32,
        "the device": lambda: torch.empty(2).device.type == "cpu" and on_meta(),
        "isinstance": lambda: isinstance(image, Tensor) and not isinstance(image, nn.Module),
        "whose isinstance it is": lambda: builtins.isinstance is isinstance_,
        "the fast path": torch.backends.mha.get_fastpath_enabled,
        "a mode": lambda: not _python_dispatch.is_in_torch_dispatch_mode(),
    }
    stop, wrong, drawn = threading.Event(), list[str](), list[Any]()

    @torch.no_grad()
    def serve() -> None:
        while not stop.is_set():
            for name, check in checks.items():
                try:
                    if not check():
                        wrong.append(name)
                except Exception as error:  # whatever a patched torch raises in this thread
                    wrong.append(f"{name}: {error!r}")
            drawn.append(draw())

    seed_all()
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        for seed in range(2):
            prunecore.prune(pruned, torch.ones(2, 4), 40, mode="random", seed=seed)
        jobs = [job(0, kind) for kind in (Drawing, Training)]
    finally:
        stop.set()
        thread.join()
    assert len(drawn) > 3
    assert wrong == []
    seed_all()
    assert drawn == [draw() for _ in drawn]
    assert jobs == [job(0, kind) for kind in (Drawing, Training)]


def seed_all() -> None:
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)


def draw() -> tuple[float, ...]:
    return float(torch.rand(1)), random.random(), float(np.random.rand())


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
    assert [graph for graph in graphs if graph != expected] == []


class Waits(nn.Module):
    """Is traced until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.begun, self.goes_on = threading.Event(), threading.Event()

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        self.begun.set()
        self.goes_on.wait(20)
        return self.a(x)


def test_a_trace_that_was_under_way_takes_what_it_replaced_with_it() -> None:
    expected, model = job(0), Waits()
    before = process()
    with ThreadPoolExecutor() as pool:
        traced = pool.submit(fx.symbolic_trace, model)
        assert model.begun.wait(20)
        done = pool.submit(job, 0)
        assert not done.done()
        model.goes_on.set()
        assert [node.op for node in traced.result().graph.nodes].count("call_module") == 2
        assert done.result()[0] == expected[0]
    assert process() == before
