"""The proof: the original with all that is not kept zeroed computes what the written network does."""

from __future__ import annotations

import copy
import functools
import importlib.util
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunecore.errors import PrunecoreError, VerificationError
from prunecore.keep import Keep

TOLERANCE = 1e-9  # relative, in float64

_PLACES = 3 * 224 * 224  # input values to verify with, spread over ...
_MOST_INPUTS = 8


def import_file(path: Path) -> ModuleType:
    """Import a written file under its own name, without leaving it in `sys.modules`.

    Raises:
        PrunecoreError: the file raises while it is imported.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise PrunecoreError(f"{path} is not a Python file.\\nGive the .py file of a written set.")
    module = importlib.util.module_from_spec(spec)
    writes = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the file raises
        raise PrunecoreError(
            f"{path} raises {type(error).__name__} on import: {error}\\n"
            "Correct the file, or write it again."
        ) from error
    finally:
        sys.dont_write_bytecode = writes
    return module


def verify(
    model: nn.Module, keep: Keep, written: nn.Module, shape: Sequence[int]
) -> dict[str, Any]:
    """Compare the masked original with the written network on random inputs, in float64.

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
    count = max(1, min(_MOST_INPUTS, _PLACES // max(1, int(torch.Size(shape).numel()))))
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, *shape, dtype=torch.float64, generator=generator).to(device)
    with torch.no_grad():
        expected = masked_original(model, keep, device)(inputs.clone())
        doubled = {
            id(t): t.detach().to(device, torch.float64 if t.is_floating_point() else t.dtype)
            for t in _stored(written)
        }
        actual = _copied(written, doubled)(inputs.clone())
    if not all(bool(leaf.isfinite().all()) for leaf in _tensors(expected)):
        raise VerificationError(
            "The original returns values that are not finite, so that nothing can be compared.\n"
            "Give it trained weights (--weights), or pass --no-verify."
        )
    difference = relative_difference(expected, actual)
    if not difference <= TOLERANCE:
        raise VerificationError(
            f"The written network differs from the masked original by {difference:.3g}, "
            f"relative; at most {TOLERANCE:g} is right. Nothing was written.\\n"
            "This is a fault of prunecore or of a plugin: please report it with the network."
        )
    return {"max_relative_difference": difference, "inputs": count}


def masked_original(model: nn.Module, keep: Keep, device: torch.device) -> nn.Module:
    """A float64 copy of the original in eval mode, zero wherever something is not kept.

    Modules for which zeros would not be inert use the forward that their plugin gave.
    """
    masked = _copied(model, {id(t): _masked(t, keep, device) for t in _stored(model)})
    for path, (index, forward) in keep.dependencies.masked_forwards.items():
        module = masked.get_submodule(path)
        kept = torch.from_numpy(keep.place(index)).to(device)
        module.forward = functools.partial(forward, module, kept)
    return masked


def relative_difference(expected: Any, actual: Any) -> float:
    """The largest difference between two outputs of the same structure, over the largest value."""
    ours, theirs = _tensors(expected), _tensors(actual)
    if len(ours) != len(theirs):
        return math.inf
    largest = 0.0
    for a, b in zip(ours, theirs, strict=True):
        if a.shape != b.shape:
            return math.inf
        if a.numel():
            scale = a.abs().max().clamp_min(torch.finfo(torch.float64).tiny)
            difference = float((a - b).abs().max() / scale)
            largest = max(largest, difference if math.isfinite(difference) else math.inf)
    return largest


def _masked(tensor: Tensor, keep: Keep, device: torch.device) -> Tensor:
    if not tensor.is_floating_point():
        return tensor.detach().to(device, copy=True)
    masked = tensor.detach().to(device, torch.float64, copy=True)
    for axis in range(tensor.ndim):
        kept = keep.indices(tensor, axis)
        if kept is not None:
            goes = torch.ones(tensor.shape[axis], dtype=torch.bool, device=device)
            goes[torch.from_numpy(kept).to(device)] = False
            masked.index_fill_(axis, goes.nonzero().flatten(), 0)
    return nn.Parameter(masked, requires_grad=False) if isinstance(tensor, nn.Parameter) else masked


def _copied(model: nn.Module, tensors: Mapping[int, Tensor]) -> nn.Module:
    """A copy in eval mode and without hooks that holds these tensors, by id, for its own."""
    try:
        copied = copy.deepcopy(model, memo=dict(tensors))
    except (TypeError, RuntimeError) as error:
        raise PrunecoreError(
            f"The network cannot be copied, which verification needs: {error}\n"
            "Keep what cannot be copied out of its attributes, or pass --no-verify."
        ) from error
    for module in copied.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return copied.eval()


def _stored(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _tensors(output: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
