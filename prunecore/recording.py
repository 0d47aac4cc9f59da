"""What the layers of a network compute when it runs, in little memory."""

from __future__ import annotations

import contextlib
import functools
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunecore.care import Visits, telling_where
from prunecore.draws import Means

_NOISE = 65537  # a prime


@dataclass(frozen=True)
class Run:
    """How networks are run to be compared.

    Attributes:
        inputs: one for each argument of the forward, with the batch.
        visits: the calls of each module in the walk, by path.
        in_training: whether they train, with the mean of what is drawn in its place.
        as_in_eval: paths of the modules that train as they run in eval mode.
    """

    inputs: Sequence[Tensor]
    visits: Visits
    in_training: bool = False
    as_in_eval: Collection[str] = ()

    def on(self, network: nn.Module, forward: Callable[..., Any]) -> None:
        """Run a network on copies of the inputs, without gradients.

        Args:
            network: the network; it is left as it was.
            forward: runs it.

        Raises:
            VerificationError: it cannot be run in float64 on inputs of this shape.
        """
        was_training = network.training
        network.train(self.in_training)
        for path in self.as_in_eval:
            network.get_submodule(path).training = False
        drawing: Any = contextlib.nullcontext()
        if self.in_training:
            drawing = Means()  # type: ignore[no-untyped-call]
        with (
            torch.no_grad(),
            torch.random.fork_rng(),
            telling_where(network, self.visits, self.inputs),
            drawing,
        ):
            torch.manual_seed(0)  # some layers draw numbers in eval mode, too
            forward(*(tensor.clone() for tensor in self.inputs))
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
        how: on what, and in which mode.
    """

    def __init__(self, places: Mapping[str, Sequence[Places]], how: Run) -> None:
        self._places = places
        self._how = how
        generator = torch.Generator().manual_seed(1)
        # repeats, at a prime distance: a channel that moves as a whole meets other noise
        self._noise = torch.randn(_NOISE, dtype=torch.float64, generator=generator)

    def run(
        self,
        network: nn.Module,
        forward: Callable[..., Any],
        paths: Mapping[str, str],
    ) -> Traces:
        """Run a network.

        Args:
            network: the network; it is left as it was.
            forward: runs it.
            paths: the modules to record, and the path that each is recorded under.
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
        self._how.on(network, forward)
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
