"""Importance by the magnitude of weights, which needs no data."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunecore.criteria.criterion import ScoringContext
from prunecore.criteria.members import (
    Choice,
    completed,
    finished,
    mean_absolute,
    norms_of,
    numbered_groups,
    numbers_at,
    reduced,
    scores_of,
    weight_values,
)
from prunecore.criteria.scoring import PARTS

_FILTERS = Choice(members=("producers",), reduce="mean", normalize="group")


def magnitude(context: ScoringContext) -> NDArray[np.float64]:
    """The mean l1 norm of all that is bound to a channel, within its group.

    What makes it, what reads it and the norms between count alike, as in the group importance of
    Fang et al., "DepGraph: Towards Any Structural Pruning", 2023, arXiv 2301.12900.
    """
    return _by_weights(context, _l1_norm, Choice(PARTS, "mean", "group"))


def l1_norm(context: ScoringContext) -> NDArray[np.float64]:
    """The mean absolute weight of each filter, averaged over the members of a coupled channel.

    The mean rather than the sum, so that layers of different fan-in compare. After Li et al.,
    "Pruning Filters for Efficient ConvNets", 2017, arXiv 1608.08710.
    """
    return _by_weights(context, mean_absolute, _FILTERS)


def l2_norm(context: ScoringContext) -> NDArray[np.float64]:
    """The root of the mean squared weight of each filter, averaged over the members of a channel.

    After He et al., "Soft Filter Pruning", 2018, arXiv 1808.06866.
    """
    return _by_weights(context, _root_mean_square, _FILTERS)


def bn_scale(context: ScoringContext) -> NDArray[np.float64]:
    """The absolute scale of the norms between layers.

    A channel without a norm is scored by its magnitude. After Liu et al., "Learning Efficient
    Convolutional Networks through Network Slimming", 2017, arXiv 1708.06519.
    """
    return _by_weights(context, mean_absolute, Choice(("norms",), "mean", "group"))


def fpgm(context: ScoringContext) -> NDArray[np.float64]:
    """The mean distance of each filter to those of its layer: what is near all can be replaced.

    After He et al., "Filter Pruning via Geometric Median", 2019, arXiv 1811.00250.
    """
    return _by_weights(context, _mean_distance, _FILTERS)


def lamp(context: ScoringContext) -> NDArray[np.float64]:
    """The squared weights of a channel, as a share of those of all channels that stay beside it.

    Of the channels of a group, those that weigh as much or more are in the sum. The share compares
    between groups, so that it is not normalised unless told. After Lee et al., "Layer-adaptive
    Sparsity for the Magnitude-based Pruning", 2021, arXiv 2010.07611.
    """
    how = completed(context.scoring, Choice(PARTS, "mean", "none"))
    count = context.dependencies.count
    found = weight_values(context, _sum_of_squares, how.members)
    squares = reduced(found, count, how.reduce)
    return finished(context, _shares(squares, numbered_groups(context.dependencies)), found, how)


def _by_weights(
    context: ScoringContext, value: Callable[[Tensor, int], Tensor], default: Choice
) -> NDArray[np.float64]:
    how = completed(context.scoring, default)
    return scores_of(context, weight_values(context, value, how.members), how)


def _l1_norm(tensor: Tensor, axis: int) -> Tensor:
    return norms_of(tensor, axis, 1)


def _sum_of_squares(tensor: Tensor, axis: int) -> Tensor:
    return norms_of(tensor, axis, 2) ** 2


def _root_mean_square(tensor: Tensor, axis: int) -> Tensor:
    return norms_of(tensor, axis, 2) / math.sqrt(numbers_at(tensor, axis))


def _mean_distance(tensor: Tensor, axis: int) -> Tensor:
    exact = tensor.movedim(axis, 0).reshape(tensor.shape[axis], -1).double()
    distances: Tensor = torch.cdist(exact, exact, compute_mode="use_mm_for_euclid_dist")
    return distances.mean(1)


def _shares(squares: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each value divided by the sum of those in its group that are no smaller."""
    order = np.lexsort((-squares, groups))
    sums = np.cumsum(squares[order])
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    before = np.append(0.0, sums)[starts][groups[order]]  # of the groups up to here
    shares = np.zeros(len(squares))
    shares[order] = squares[order] / np.maximum(sums - before, 1e-30)
    return shares
