"""Criteria: one importance score a channel, low goes first."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunecore.dependencies import Dependencies
from prunecore.hookspecs import hookimpl

# (dependencies, the network's tensors by name, seed) -> one score a channel, shape (channels,)
Criterion = Callable[[Dependencies, Mapping[str, Tensor], int], NDArray[np.float64]]


def random(
    dependencies: Dependencies, tensors: Mapping[str, Tensor], seed: int
) -> NDArray[np.float64]:
    """Seeded uniform scores."""
    return np.random.default_rng(seed).random(dependencies.count)


PROFILES = ("early-heavy", "late-heavy", "uniform")  # where most channels go
_SLOPE = 2.0  # how much likelier channels at one end of the network go, as a power
_SPREAD = 0.5  # standard deviation of the same from layer to layer


def random_weighted(
    dependencies: Dependencies, tensors: Mapping[str, Tensor], seed: int
) -> NDArray[np.float64]:
    """Random scores under a profile over the network's depth; the seed draws both.

    The profile is one of `PROFILES`, and each layer has a weight of its own around it: seeds give
    networks of one size whose layers differ a lot in width, as fits of latency need them.
    """
    random = np.random.default_rng(seed)
    profile = PROFILES[random.integers(len(PROFILES))]
    depth = np.zeros(dependencies.count)  # of the first layer that makes each channel, 0 to 1
    own = np.zeros(dependencies.count)
    indices = list(dict.fromkeys(dependencies.layers.values()))
    for place, index in reversed(list(enumerate(indices))):
        channels = dependencies.axes[index]
        channels = channels[channels >= 0]
        depth[channels] = place / max(1, len(indices) - 1)
        own[channels] = random.normal(0, _SPREAD)
    leaning = {"early-heavy": 0.5 - depth, "late-heavy": depth - 0.5, "uniform": 0 * depth}
    scores: NDArray[np.float64] = random.random(dependencies.count) ** np.exp(
        _SLOPE * leaning[profile] + own
    )
    return scores


def l1_norm(
    dependencies: Dependencies, tensors: Mapping[str, Tensor], seed: int
) -> NDArray[np.float64]:
    """The mean absolute weight of each filter, averaged over the members of a coupled channel.

    The mean rather than the sum, so that layers of different fan-in compare. After Li et al.,
    "Pruning Filters for Efficient ConvNets", 2017, arXiv 1608.08710.
    """
    channels, scores = [], []
    for name, axis, bound in dependencies.filters:
        weight = tensors[name].detach()
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


@hookimpl
def prunecore_criteria() -> Mapping[str, Criterion]:
    """The modes `random`, `random-weighted` and `l1-norm`."""
    return {"random": random, "random-weighted": random_weighted, "l1-norm": l1_norm}
