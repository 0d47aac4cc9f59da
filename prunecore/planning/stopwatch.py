"""Measuring the latency of networks that are written for it, beside the original's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunecore.channels.dependencies import Dependencies
from prunecore.channels.keep import Keep
from prunecore.errors import PrunecoreError, told
from prunecore.inputs import Inputs
from prunecore.isolation.random_states import kept_random_states
from prunecore.latency.timing import take_turns, timing_of
from prunecore.planning.choices import Choice
from prunecore.planning.latency import Measured
from prunecore.registry import Plugins, hyphened
from prunecore.tracing.arguments import without_constants
from prunecore.writing.building import written_network

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
        self._backend, self.backend = plugins.latency_backend(backend), hyphened(backend)
        self._example = inputs.example(model)
        with running():
            self._original = self._backend(original, *self._example)
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
            backend=self.backend,
            threads=torch.get_num_threads(),
            before=timing_of(turns[0]),
            after=timing_of(turns[-1]),
            ratio=float(np.median(turns[-1] / turns[0])),
        )

    def runs_of_layers(
        self, choice: Choice, paths: Collection[str]
    ) -> dict[str, list[Callable[[], Any]]]:
        """What runs the network of a choice, under the path "", and each of its layers alone.

        Args:
            choice: what stays.
            paths: of the layers.

        Returns:
            By path, what runs each call of a layer on what it is given in the network.

        Raises:
            PrunecoreError: the network cannot be run.
        """
        keep = Keep(self._model, self._dependencies, choice.kept, ())
        network = self._written(keep)
        calls: dict[str, list[tuple[nn.Module, Any]]] = {path: [] for path in paths}

        def record(path: str, module: nn.Module, args: Any, kwargs: Any) -> None:
            calls[path].append((module, pytree.tree_map_only(Tensor, torch.clone, (args, kwargs))))

        handles = [
            network.get_submodule(path).register_forward_pre_hook(
                functools.partial(record, path), with_kwargs=True
            )
            for path in paths
        ]
        args, kwargs = self._given
        with running(), torch.no_grad():
            network(*args, **kwargs)
        for handle in handles:
            handle.remove()
        with running():
            return {
                "": [self._made(network)],
                **{path: [self._alone(*call) for call in called] for path, called in calls.items()},
            }

    def _alone(self, module: nn.Module, given: Any) -> Callable[[], Any]:
        call = _Call(module, given)
        return self._backend(call.eval(), call.tensors, {})

    def _run_of(self, choice: Choice) -> Callable[[], Any]:
        key = choice.kept.tobytes()
        if self._last is None or self._last[0] != key:
            paths = [block.path for block in choice.blocks]
            keep = Keep(self._model, self._dependencies, choice.kept, paths)
            self._last = key, self._made(self._written(keep))
        return self._last[1]

    def _written(self, keep: Keep) -> nn.Module:
        written = written_network(self._model, keep, self._plugins, _NAME, "Timed.")
        return written.network.eval()

    @property
    def _given(self) -> tuple[Sequence[Any], dict[str, Any]]:
        """What a written network is called with."""
        chosen = self._dependencies.forwards.constants.get("", ())
        return without_constants(self._model, chosen, *self._example)

    def _made(self, network: nn.Module) -> Callable[[], Any]:
        args, kwargs = self._given
        return self._backend(network, list(args), kwargs)


class _Call(nn.Module):
    """A module that is called with tensors alone, and given all else that one call of it was.

    Args:
        module: the module.
        given: what it was called with, by place and by name.
    """

    def __init__(self, module: nn.Module, given: tuple[Any, Any]) -> None:
        super().__init__()
        self.module = module
        self.leaves, self.spec = pytree.tree_flatten(given)
        self.tensors = [leaf for leaf in self.leaves if isinstance(leaf, Tensor)]

    def forward(self, *tensors: Tensor) -> Any:
        """What the module returns."""
        rest = iter(tensors)
        leaves = [next(rest) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return self.module(*args, **kwargs)


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
