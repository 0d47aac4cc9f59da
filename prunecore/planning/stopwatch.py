"""Measuring the latency of networks that are written for it, beside the original's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from prunecore.channels.dependencies import Dependencies
from prunecore.channels.keep import Keep
from prunecore.errors import PrunecoreError, told
from prunecore.inputs import Inputs
from prunecore.isolation.random_states import kept_random_states
from prunecore.latency.timing import take_turns, timing_of
from prunecore.planning.choices import Choice
from prunecore.planning.latency import Measured
from prunecore.registry import Plugins, hyphened
from prunecore.writing.building import build, naming_the_writer, transfer_weights
from prunecore.writing.source_file import write_network

_NAME = "network"  # of the factory in files that are written to be timed


class Stopwatch:
    """Writes the network of a choice, without the proof, and times it in turns with the original.

    Args:
        model: the original.
        original: a copy of it in eval mode, to be run.
        dependencies: its channels.
        inputs: what it is called with; the batch is that of the examples, 1 where there are none.
        plugins: the loaded plugins.
        backend: the name of what runs the networks.

    Raises:
        UsageError: the backend is not known.
    """

    def __init__(
        self,
        model: nn.Module,
        original: nn.Module,
        dependencies: Dependencies,
        inputs: Inputs,
        plugins: Plugins,
        backend: str,
    ) -> None:
        self._model, self._dependencies, self._plugins = model, dependencies, plugins
        self._backend, self._name = plugins.latency_backend(backend), hyphened(backend)
        self._example = inputs.example(model)
        with running():
            self._original = self._made(original)
        self._last: tuple[bytes, Callable[[], Any]] | None = None  # the choice, and its network

    def __call__(self, choice: Choice | None, seconds: float) -> Measured:
        """Measure beside the whole network the one of a choice.

        Args:
            choice: what stays; `None` for everything, in which case the original alone is timed.
            seconds: that the turns may take.

        Raises:
            PrunecoreError: a network cannot be run.
        """
        runs = [self._original]
        with running():
            if choice is not None:
                runs.append(self._run_of(choice))
            turns = take_turns(runs, seconds)
        return Measured(
            backend=self._name,
            threads=torch.get_num_threads(),
            before=timing_of(turns[0]),
            after=timing_of(turns[-1]),
            ratio=float(np.median(turns[-1] / turns[0])),
        )

    def _run_of(self, choice: Choice) -> Callable[[], Any]:
        key = choice.kept.tobytes()
        if self._last is None or self._last[0] != key:
            paths = [block.path for block in choice.blocks]
            keep = Keep(self._model, self._dependencies, choice.kept, paths)
            self._last = key, self._made(self._written(keep))
        return self._last[1]

    def _written(self, keep: Keep) -> nn.Module:
        weights = transfer_weights(self._model, keep, self._plugins)
        with naming_the_writer(self._model, keep, self._plugins, weights):
            source = write_network(self._model, keep, self._plugins, _NAME, "Timed.")
            return build(source, _NAME, weights).eval()

    def _made(self, network: nn.Module) -> Callable[[], Any]:
        args, kwargs = self._example
        return self._backend(network, args, kwargs)


@contextmanager
def running() -> Iterator[None]:
    """Run networks to time them: nothing of prunecore's stands between them and torch.

    Raises:
        PrunecoreError: a network cannot be run.
    """
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count()) if in_use else ()
    try:
        with kept_random_states(), torch.random.fork_rng(list(devices)):
            yield
    except PrunecoreError:
        raise
    except Exception as error:  # whatever a stranger's forward raises
        raise PrunecoreError(
            f"The network cannot be run to measure its latency: {told(error)}\n"
            "See whether it runs on inputs of this shape in its own dtype."
        ) from error
