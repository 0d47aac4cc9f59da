"""What the layers of a network compute when it runs, in little memory."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunecore.care import Visits, telling_where

_NOISE = 65537  # a prime


def run_on(
    network: nn.Module, forward: Callable[[Tensor], Any], inputs: Tensor, visits: Visits
) -> None:
    """Run a network in eval mode on a copy of the inputs, without gradients.

    Args:
        network: the network; it is left as it was.
        forward: runs it.
        inputs: with the batch.
        visits: the calls of each module in the walk, by path.

    Raises:
        VerificationError: it cannot be run in float64 on inputs of this shape.
    """
    was_training = network.training
    network.eval()
    with torch.no_grad(), torch.random.fork_rng(), telling_where(network, visits, inputs):
        torch.manual_seed(0)  # some layers draw numbers in eval mode, too
        forward(inputs.clone())
    network.train(was_training)


@dataclass(frozen=True)
class Trace:
    """What stays of a tensor: its inner product with fixed noise, its norm and its shape."""

    projection: float
    size: float
    shape: tuple[int, ...]


Traces = dict[tuple[str, int], Trace]  # by path, and number of the tensor that it returned

# The channel axis of a tensor and its kept places; `None` where all stay.
Places = tuple[int, Tensor] | None


class Recorder:
    """Records what the layers of a network return, and what the network does.

    A projection on noise differs when the tensor does, takes no memory, and is taken at once,
    before an in-place operation overwrites the tensor.

    Args:
        places: by path, for each tensor that a module returns, what of it is recorded; else all.
        visits: the calls of each module in the walk, by path.
    """

    def __init__(self, places: Mapping[str, Sequence[Places]], visits: Visits) -> None:
        self._places = places
        self._visits = visits
        generator = torch.Generator().manual_seed(1)
        # repeats, at a prime distance: a channel that moves as a whole meets other noise
        self._noise = torch.randn(_NOISE, dtype=torch.float64, generator=generator)

    def run(
        self,
        network: nn.Module,
        forward: Callable[[Tensor], Any],
        paths: Mapping[str, str],
        inputs: Tensor,
    ) -> Traces:
        """Run a network in eval mode on a copy of the inputs.

        Args:
            network: the network; it is left as it was.
            forward: runs it.
            paths: the modules to record, and the path that each is recorded under.
            inputs: with the batch.
        """
        traces: Traces = {}
        numbers: Counter[str] = Counter()  # of the tensors that a module returned so far

        def record(path: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
            for tensor in (leaf for leaf in pytree.tree_leaves(output) if torch.is_tensor(leaf)):
                known = self._places.get(path, ())
                places = known[numbers[path]] if numbers[path] < len(known) else None
                kept = tensor if places is None else tensor.index_select(*places)
                traces[path, numbers[path]] = self._trace(kept)
                numbers[path] += 1

        modules = {network.get_submodule(name): path for name, path in paths.items()}
        handles = [
            module.register_forward_hook(functools.partial(record, path))
            for module, path in modules.items()
        ]
        run_on(network, forward, inputs, self._visits)
        for handle in handles:
            handle.remove()
        return traces

    def _trace(self, tensor: Tensor) -> Trace:
        flat = tensor.to(torch.float64).flatten()
        noise = self._noise.to(flat.device)
        whole = len(flat) - len(flat) % _NOISE
        projection = (flat[:whole].view(-1, _NOISE) @ noise).sum()
        projection += flat[whole:] @ noise[: len(flat) - whole]
        return Trace(float(projection), math.sqrt(float(flat @ flat)), tuple(tensor.shape))
