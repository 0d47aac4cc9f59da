"""Statistics of norms, estimated anew on what the smaller network computes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prunecore.channels.linear_map import LinearMap, RunningStatistics


@torch.no_grad()
def estimate_statistics(
    small: nn.Module, layers: Mapping[str, LinearMap | RunningStatistics], images: Tensor
) -> list[str]:
    """Give each norm the mean and variance of what it reads, one after the other.

    Args:
        small: the network, in eval mode; its statistics change.
        layers: its linear maps and norms, by path.
        images: run through it all together, so that a norm reads what those before it have made.

    Returns:
        The names of the tensors that have changed.
    """
    changed: list[str] = []

    def estimate(
        path: str, norm: RunningStatistics, _module: nn.Module, inputs: tuple[Any, ...]
    ) -> None:
        read = inputs[0].detach().transpose(0, 1).flatten(1).double()
        if read.shape[1] > 1:  # else there is no variance
            norm.mean.copy_(read.mean(1))
            norm.variance.copy_(read.var(1))
            changed.extend((f"{path}.running_mean", f"{path}.running_var"))

    handles = [
        small.get_submodule(path).register_forward_pre_hook(
            functools.partial(estimate, path, layer)
        )
        for path, layer in layers.items()
        if isinstance(layer, RunningStatistics)
    ]
    try:
        small(images)
    finally:
        for handle in handles:
            handle.remove()
    return changed
