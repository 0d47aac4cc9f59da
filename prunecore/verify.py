"""The proof: the masked original and the written network compute the same, layer by layer."""

from __future__ import annotations

import functools
import importlib.util
import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from prunecore.errors import PrunecoreError, VerificationError
from prunecore.keep import Keep
from prunecore.masking import as_double, masked_original
from prunecore.signal import Signal

TOLERANCE = 1e-9  # relative, in float64

# What a report says of a difference. Rounding errors depend on the number of threads that add up,
# and reports are to be the same everywhere.
_BOUNDS = (1e-12, 1e-11, 1e-10, TOLERANCE)

_PLACES = 3 * 224 * 224  # input values to verify with: small inputs come several at a time
_MOST_INPUTS = 8
_NOISE = 65537  # a prime


def import_file(path: Path) -> ModuleType:
    """Import a written file, without leaving it in `sys.modules` or bytecode beside it.

    Raises:
        PrunecoreError: the file raises while it is imported.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise PrunecoreError(f"{path} is not a Python file.\nGive the .py file of a written set.")
    module = importlib.util.module_from_spec(spec)
    writes_none = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the file raises
        raise PrunecoreError(
            f"{path} raises {type(error).__name__} on import: {error}\n"
            "Correct the file, or write it again."
        ) from error
    finally:
        sys.dont_write_bytecode = writes_none
    return module


def verify(
    model: nn.Module, keep: Keep, written: nn.Module, shape: Sequence[int]
) -> dict[str, Any]:
    """Compare the masked original with the written network on random inputs, in float64.

    The output is compared, and the output of every layer that mixes channels on the way, each
    relative to its own size: weights that let the signal die out would otherwise hide any fault
    before that.

    Args:
        model: the original; a copy is masked, and shares nothing with it.
        keep: what stays of it.
        written: the network of the imported file, its weights loaded; it is left as it was.
        shape: of one input, without the batch.

    Returns:
        `max_relative_difference`, rounded up to a power of ten of at least 1e-12, and the number of
        `inputs`.

    Raises:
        VerificationError: they differ by more than `TOLERANCE`.
    """
    inputs = sample_inputs(model, shape)
    device = inputs.device
    paths = _compared_paths(model, written)
    original = masked_original(model, keep, device)
    expected = _Recorder(_kept_places(keep, device)).run(original, original, paths, inputs)
    del original  # its memory is what the other run needs
    if not all(math.isfinite(trace.size) for trace in expected.values()):
        raise VerificationError(
            "The original computes values that are not finite, so that nothing can be compared.\n"
            "Give it trained weights (--weights), or pass --no-verify."
        )
    in_double = functools.partial(
        functional_call, written, as_double(written, device), tie_weights=False
    )
    actual = _Recorder({}).run(written, in_double, paths, inputs)
    path, difference = _largest_difference(expected, actual)
    if not difference <= TOLERANCE:
        raise VerificationError(
            f"The written network differs from the masked original by {difference:.3g}, relative, "
            f"first at {path or 'its output'}; at most {TOLERANCE:g} is right.\n"
            "This is a fault of prunecore or of a plugin: please report it with the network."
        )
    bound = next(bound for bound in _BOUNDS if difference <= bound)
    return {"max_relative_difference": bound, "inputs": len(inputs)}


def sample_inputs(model: nn.Module, shape: Sequence[int]) -> Tensor:
    """Random inputs of a network, the same each time, in float64 and where the network is.

    Args:
        model: the network.
        shape: of one input, without the batch.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    device = torch.device("cpu") if device.type == "mps" else device  # has no float64
    count = max(1, min(_MOST_INPUTS, _PLACES // int(torch.Size(shape).numel())))
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, *shape, dtype=torch.float64, generator=generator).to(device)


def run_on(network: nn.Module, forward: Callable[[Tensor], Any], inputs: Tensor) -> None:
    """Run a network in eval mode on a copy of the inputs, without gradients.

    Args:
        network: the network; it is left as it was.
        forward: runs it.
        inputs: with the batch.

    Raises:
        VerificationError: it cannot be run in float64 on inputs of this shape.
    """
    was_training = network.training
    network.eval()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)  # some layers draw numbers in eval mode, too
        try:
            forward(inputs.clone())
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise VerificationError(
                f"{type(network).__name__} cannot be run in float64 on inputs of shape "
                f"{tuple(inputs.shape)}: {str(error).splitlines()[0]}\n"
                "Take what ties its forward to another type or batch size out of it, or pass "
                "--no-verify."
            ) from error
    network.train(was_training)


@dataclass(frozen=True)
class _Trace:
    """What stays of a tensor: its inner product with fixed noise, its norm and its shape."""

    projection: float
    size: float
    shape: tuple[int, ...]


# The channel axis of a tensor and its kept places; `None` where all stay.
_Places = tuple[int, Tensor] | None


class _Recorder:
    """Records what the layers of a network return, and what the network does.

    A projection on noise differs when the tensor does, takes no memory, and is taken at once,
    before an in-place operation overwrites the tensor.
    """

    def __init__(self, places: Mapping[str, Sequence[_Places]]) -> None:
        self._places = places
        generator = torch.Generator().manual_seed(1)
        # repeats, at a prime distance: a channel that moves as a whole meets other noise
        self._noise = torch.randn(_NOISE, dtype=torch.float64, generator=generator)

    def run(
        self,
        network: nn.Module,
        forward: Callable[[Tensor], Any],
        paths: Mapping[str, str],
        inputs: Tensor,
    ) -> dict[tuple[str, int], _Trace]:
        """Run a network in eval mode on a copy of the inputs.

        Args:
            network: the network; it is left as it was.
            forward: runs it.
            paths: the modules to record, and the path that each is recorded under.
            inputs: with the batch.
        """
        traces: dict[tuple[str, int], _Trace] = {}
        numbers: Counter[str] = Counter()  # of the tensors that a module returned so far

        def record(path: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
            for tensor in (leaf for leaf in pytree.tree_leaves(output) if torch.is_tensor(leaf)):
                places = self._places[path][numbers[path]] if path in self._places else None
                kept = tensor if places is None else tensor.index_select(*places)
                traces[path, numbers[path]] = self._trace(kept)
                numbers[path] += 1

        modules = {network.get_submodule(name): path for name, path in paths.items()}
        handles = [
            module.register_forward_hook(functools.partial(record, path))
            for module, path in modules.items()
        ]
        run_on(network, forward, inputs)
        for handle in handles:
            handle.remove()
        return traces

    def _trace(self, tensor: Tensor) -> _Trace:
        flat = tensor.to(torch.float64).flatten()
        noise = self._noise.to(flat.device)
        whole = len(flat) - len(flat) % _NOISE
        projection = (flat[:whole].view(-1, _NOISE) @ noise).sum()
        projection += flat[whole:] @ noise[: len(flat) - whole]
        return _Trace(float(projection), math.sqrt(float(flat @ flat)), tuple(tensor.shape))


def _compared_paths(model: nn.Module, written: nn.Module) -> dict[str, str]:
    """The network and its layers that mix channels, by path, and the first path of each."""
    first = {id(module): path for path, module in model.named_modules()}
    there = {path for path, _ in written.named_modules(remove_duplicate=False)}
    return {
        path: first[id(module)]
        for path, module in model.named_modules(remove_duplicate=False)
        if path in there and (not path or any(p.ndim > 1 for p in module.parameters(recurse=False)))
    }


def _kept_places(keep: Keep, device: torch.device) -> dict[str, list[_Places]]:
    """For each tensor that each module returns, in order, what stays of it."""

    def places(signal: Signal) -> _Places:
        for axis in signal.channel_axes:
            return axis, torch.from_numpy(keep.mask(signal.ids.ravel()).nonzero()[0]).to(device)
        return None

    return {
        path: [
            places(leaf)
            for leaf in pytree.tree_leaves([visit.output for visit in visits])
            if isinstance(leaf, Signal)
        ]
        for path, visits in keep.dependencies.visits.items()
    }


def _largest_difference(
    expected: Mapping[tuple[str, int], _Trace], actual: Mapping[tuple[str, int], _Trace]
) -> tuple[str, float]:
    """The first module, in order of execution, that is off, and the largest difference."""
    if expected.keys() != actual.keys():
        return "", math.inf
    largest = 0.0
    for key, ours in expected.items():
        theirs = actual[key]
        difference = abs(ours.projection - theirs.projection) / (ours.size or 1.0)
        if ours.shape != theirs.shape or not difference <= TOLERANCE:
            return key[0], math.inf if ours.shape != theirs.shape else difference
        largest = max(largest, difference)
    return "", largest
