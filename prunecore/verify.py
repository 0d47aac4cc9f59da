"""The proof: the masked original and the written network compute the same, layer by layer."""

from __future__ import annotations

import functools
import importlib.util
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunecore.errors import PrunecoreError, VerificationError
from prunecore.keep import Keep
from prunecore.masking import doubled, masked_original
from prunecore.signal import Signal

TOLERANCE = 1e-9  # relative, in float64

_PLACES = 3 * 224 * 224  # input values to verify with: small inputs come several at a time
_MOST_INPUTS = 8


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

    The output is compared, and the output of every module on the way, each relative to its own
    size: weights that let the signal die out would otherwise hide any fault before that.

    Args:
        model: the original; a copy is masked, and shares nothing with it.
        keep: what stays of it.
        written: the network of the imported file, its weights loaded; it is left as it was.
        shape: of one input, without the batch.

    Returns:
        `max_relative_difference` and the number of `inputs`.

    Raises:
        VerificationError: they differ by more than `TOLERANCE`.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    device = torch.device("cpu") if device.type == "mps" else device  # has no float64
    count = max(1, min(_MOST_INPUTS, _PLACES // int(torch.Size(shape).numel())))
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, *shape, dtype=torch.float64, generator=generator).to(device)
    projection = _Projection(keep, device)
    paths = _shared_paths(model, written)
    expected = projection.run(masked_original(model, keep, device), paths, inputs, cut=True)
    if not all(math.isfinite(size) for _, size in expected.values()):
        raise VerificationError(
            "The original computes values that are not finite, so that nothing can be compared.\n"
            "Give it trained weights (--weights), or pass --no-verify."
        )
    actual = projection.run(doubled(written, device), paths, inputs, cut=False)
    path, difference = _largest_difference(expected, actual)
    if not difference <= TOLERANCE:
        raise VerificationError(
            f"The written network differs from the masked original by {difference:.3g}, relative, "
            f"first at {path or 'its output'}; at most {TOLERANCE:g} is right.\n"
            "This is a fault of prunecore or of a plugin: please report it with the network."
        )
    return {"max_relative_difference": difference, "inputs": count}


# Of one tensor: its inner product with fixed noise, and its norm.
_Print = tuple[float, float]


class _Projection:
    """Records what every module of a network returns, projected on fixed noise.

    A projection differs when a tensor does, takes no memory, and is taken at once, before an
    in-place operation overwrites the tensor.
    """

    def __init__(self, keep: Keep, device: torch.device) -> None:
        self._generator = torch.Generator().manual_seed(1)
        self._noise = torch.empty(0, dtype=torch.float64, device=device)
        self._kept = {
            path: [
                _kept_places(leaf, keep, device)
                for leaf in pytree.tree_leaves([visit.output for visit in visits])
                if isinstance(leaf, Signal)
            ]
            for path, visits in keep.dependencies.visits.items()
        }

    def run(
        self, network: nn.Module, paths: Mapping[str, str], inputs: Tensor, cut: bool
    ) -> dict[tuple[str, int], _Print]:
        """Run a network on a copy of the inputs.

        Args:
            network: a copy of its own.
            paths: the modules to record, and the path that each is recorded under.
            inputs: with the batch.
            cut: whether to look at the kept places only.
        """
        prints: dict[tuple[str, int], _Print] = {}
        numbers: Counter[str] = Counter()  # of the tensors that a module returned so far

        def record(path: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
            tensors = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
            for tensor in tensors:
                kept = self._kept[path][numbers[path]]
                if cut and kept is not None:
                    tensor = tensor.index_select(*kept)
                prints[path, numbers[path]] = self._print(tensor)
                numbers[path] += 1

        modules = {network.get_submodule(name): path for name, path in paths.items()}
        for module, path in modules.items():
            if path in self._kept:
                module.register_forward_hook(functools.partial(record, path))
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)  # some layers draw numbers in eval mode, too
            network(inputs.clone())
        return prints

    def _print(self, tensor: Tensor) -> _Print:
        flat = tensor.to(torch.float64).flatten()
        missing = len(flat) - len(self._noise)
        if missing > 0:  # what is there must stay, other tensors were projected on it
            noise = torch.randn(missing, dtype=torch.float64, generator=self._generator)
            self._noise = torch.cat([self._noise, noise.to(self._noise.device)])
        return float(self._noise[: len(flat)] @ flat), float(flat.norm())


def _shared_paths(model: nn.Module, written: nn.Module) -> dict[str, str]:
    """The paths that both networks have; a module of several paths goes by its first."""
    first = {id(module): path for path, module in model.named_modules()}
    there = {path for path, _ in written.named_modules(remove_duplicate=False)}
    named = model.named_modules(remove_duplicate=False)
    return {path: first[id(module)] for path, module in named if path in there}


def _kept_places(signal: Signal, keep: Keep, device: torch.device) -> tuple[int, Tensor] | None:
    """The channel axis and its kept places; `None` where all stay."""
    for axis in signal.channel_axes:
        kept = torch.from_numpy(keep.mask(signal.ids.ravel()).nonzero()[0])
        return axis, kept.to(device)
    return None


def _largest_difference(
    expected: dict[tuple[str, int], _Print], actual: dict[tuple[str, int], _Print]
) -> tuple[str, float]:
    """The first module, in order of execution, that is off, and the largest difference."""
    if expected.keys() != actual.keys():
        return "", math.inf
    largest = 0.0
    for key, (ours, size) in expected.items():
        theirs, _ = actual[key]
        difference = abs(ours - theirs) / (size or 1.0)
        if not difference <= TOLERANCE:
            return key[0], difference
        largest = max(largest, difference)
    return "", largest
