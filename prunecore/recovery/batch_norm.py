"""Statistics of norms, estimated anew on what the smaller network computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from prunecore.channels.layers.linear_map import LinearMap, RunningStatistics
from prunecore.recovery.side_by_side import SideBySide


@torch.no_grad()
def estimate_statistics(
    network: nn.Module,
    layers: Mapping[str, LinearMap | RunningStatistics],
    batches: Sequence[Tensor],
) -> list[str]:
    """Give each norm the mean and variance of what it reads, one after the other.

    Args:
        network: in eval mode; its statistics change.
        layers: its linear maps and norms, by path.
        batches: of images; a norm reads what those before it have made of all of them.

    Returns:
        The names of the tensors that have changed.
    """
    changed: list[str] = []
    norms = {path: one for path, one in layers.items() if isinstance(one, RunningStatistics)}

    def estimate(path: str, inputs: Sequence[Tensor]) -> None:
        each = [read.transpose(0, 1).flatten(1) for read in inputs]
        count = sum(read.shape[1] for read in each)
        if count < 2:  # there is no variance
            return
        norm = norms[path]
        mean = torch.stack([read.sum(1, dtype=torch.float64) for read in each]).sum(0) / count
        squares = torch.stack([(read - mean[:, None]).square().sum(1) for read in each]).sum(0)
        norm.mean.copy_(mean)
        norm.variance.copy_(squares / (count - 1))
        changed.extend((f"{path}.running_mean", f"{path}.running_var"))

    SideBySide(network, batches).run(norms, estimate)
    return changed
