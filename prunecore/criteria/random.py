"""Importance drawn at random."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunecore.criteria.criterion import ScoringContext


def random(context: ScoringContext) -> NDArray[np.float64]:
    """Seeded uniform scores."""
    return np.random.default_rng(context.seed).random(context.dependencies.count)


PROFILES = ("early-heavy", "late-heavy", "uniform")  # where most channels go


_SLOPE = 2.0  # how much likelier channels at one end of the network go, as a power


_SPREAD = 0.5  # standard deviation of the same from layer to layer


def random_weighted(context: ScoringContext) -> NDArray[np.float64]:
    """Random scores under a profile over the network's depth; the seed draws both.

    The profile is one of `PROFILES`, and each layer has a weight of its own around it: seeds give
    networks of one size whose layers differ a lot in width, as fits of latency need them.
    """
    dependencies = context.dependencies
    random = np.random.default_rng(context.seed)
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
