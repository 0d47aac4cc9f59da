"""The masked original: what the written network must agree with."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prunecore.errors import PrunecoreError
from prunecore.keep import Keep


def masked_original(model: nn.Module, keep: Keep, device: torch.device) -> nn.Module:
    """A float64 copy of the original in eval mode, zero wherever something is not kept.

    Modules for which zeros would not be inert use the forward that their plugin gave.

    Args:
        model: the original; the copy shares no tensor with it.
        keep: what stays of it.
        device: where the copy is to be.
    """
    masked = copied(model, {id(t): _masked(t, keep, device) for t in stored(model)})
    for path, (index, forward) in keep.dependencies.masked_forwards.items():
        module = masked.get_submodule(path)
        kept = torch.from_numpy(keep.place(index)).to(device)
        module.forward = functools.partial(forward, module, kept)
    return masked


def doubled(model: nn.Module, device: torch.device) -> nn.Module:
    """A float64 copy of a network in eval mode."""
    return copied(model, {id(t): _as_double(t, device) for t in stored(model)})


def stored(model: nn.Module) -> list[Tensor]:
    """A network's parameters and buffers."""
    return [*model.parameters(), *model.buffers()]


def copied(model: nn.Module, tensors: Mapping[int, Tensor]) -> nn.Module:
    """A copy in eval mode, without hooks, that has these tensors, by id, in place of its own.

    Raises:
        PrunecoreError: an attribute of the network cannot be copied.
    """
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


def _as_double(tensor: Tensor, device: torch.device) -> Tensor:
    dtype = torch.float64 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(device, dtype, copy=True)


def _masked(tensor: Tensor, keep: Keep, device: torch.device) -> Tensor:
    masked = _as_double(tensor, device)
    for axis in range(tensor.ndim if tensor.is_floating_point() else 0):
        kept = keep.indices(tensor, axis)
        if kept is not None:
            goes = torch.ones(tensor.shape[axis], dtype=torch.bool, device=device)
            goes[torch.from_numpy(kept).to(device)] = False
            masked.index_fill_(axis, goes.nonzero().flatten(), 0)
    return nn.Parameter(masked, requires_grad=False) if isinstance(tensor, nn.Parameter) else masked
