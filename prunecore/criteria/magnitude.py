"""Importance by the magnitude of weights."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from prunecore.criteria.criterion import ScoringContext


def l1_norm(context: ScoringContext) -> NDArray[np.float64]:
    """The mean absolute weight of each filter, averaged over the members of a coupled channel.

    The mean rather than the sum, so that layers of different fan-in compare. After Li et al.,
    "Pruning Filters for Efficient ConvNets", 2017, arXiv 1608.08710.
    """
    dependencies = context.dependencies
    channels, scores = [], []
    for name, axis, bound in dependencies.filters:
        weight = context.tensors[name].detach()
        rows = weight.flatten(1) if axis == 0 else weight.movedim(axis, 0).flatten(1)
        norms = torch.linalg.vector_norm(rows, ord=1, dim=1, dtype=_exact(rows.dtype))
        channels.append(dependencies.axes[bound])
        scores.append(norms.double().cpu().numpy() / rows.shape[1])
    if not channels:
        return np.zeros(dependencies.count)
    places, values = np.concatenate(channels), np.concatenate(scores)
    values, places = values[places >= 0], places[places >= 0]
    members = np.bincount(places, minlength=dependencies.count)
    sums = np.bincount(places, weights=values, minlength=dependencies.count)
    averages: NDArray[np.float64] = sums / np.maximum(members, 1)
    return averages


def _exact(dtype: torch.dtype) -> torch.dtype:
    """The dtype to add half-precision weights up in."""
    return dtype if dtype in (torch.float32, torch.float64) else torch.float32
