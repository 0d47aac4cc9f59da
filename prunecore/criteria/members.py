"""What is bound to a channel, put together: gathered, reduced to one value, normalised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunecore.channels.blocks import rows_at_once
from prunecore.channels.dependencies import ChannelArray, Dependencies, groups_of
from prunecore.channels.names import is_bias
from prunecore.channels.on_host import on_host
from prunecore.criteria.criterion import ScoringContext
from prunecore.criteria.scoring import PARTS, Normalization, Part, Reduction, Scoring

# The channel at each place of one member, and a value for each, shape `(..., places)`.
Values = tuple[ChannelArray, NDArray[np.float64]]


@dataclass(frozen=True)
class Choice:
    """A `Scoring` that leaves nothing open."""

    members: tuple[Part, ...]
    reduce: Reduction
    normalize: Normalization


def completed(scoring: Scoring, default: Choice) -> Choice:
    """What a user chose, and the criterion's own where that leaves it open."""
    return Choice(
        scoring.members or default.members,
        scoring.reduce or default.reduce,
        scoring.normalize or default.normalize,
    )


_SMALLEST = 1e-30  # in the place of a mean that nothing can be divided by


def weight_values(
    context: ScoringContext, value: Callable[[Tensor, int], Tensor], members: Sequence[Part]
) -> list[Values]:
    """The values of the weights that are bound to channels, member by member.

    Producers are the filters that make channels, consumers the other bound axes of weights of
    several axes, norms the bound parameters of one axis that are no biases.

    Args:
        context: what is scored.
        value: of what lies at each place of a tensor's axis; returns one for each place.
        members: the parts that count.
    """
    dependencies = context.dependencies
    makes = {(name, axis) for name, axis, _ in dependencies.filters}
    found = []
    for name, bound in dependencies.bound.items():
        tensor = context.tensors.get(name)
        if not isinstance(tensor, nn.Parameter) or not tensor.is_floating_point():
            continue
        for axis, index in bound.items():
            part = _part(name, axis, tensor, makes)
            if part in members:
                found.append((dependencies.axes[index], value(tensor.detach(), axis).double()))
    return at_once(found)


def at_once(found: Sequence[tuple[ChannelArray, Tensor]]) -> list[Values]:
    """Values that were worked out where the network is, as NumPy's."""
    values = on_host([values for _, values in found])
    return [(channels, one.numpy()) for (channels, _), one in zip(found, values, strict=True)]


def _part(name: str, axis: int, tensor: Tensor, makes: set[tuple[str, int]]) -> Part | None:
    if (name, axis) in makes:
        return "producers"
    if tensor.ndim > 1:
        return "consumers"
    return None if is_bias(name) else "norms"


def norms_of(tensor: Tensor, axis: int, order: int) -> Tensor:
    """The l1 or l2 norm of what lies at each place of an axis; float16 is added up in float32."""
    exact = tensor.dtype if tensor.dtype in (torch.float32, torch.float64) else torch.float32
    others = [other for other in range(tensor.ndim) if other != axis]
    step = rows_at_once(tensor)
    # with a place of their own: small ones among the blocks would each keep the memory of one
    if len(tensor) <= step:
        total = tensor.new_empty(tensor.shape[axis], dtype=exact)
        _add_up(tensor, others, order, total)
    else:
        blocks = torch.split(tensor, step)
        size = [len(tensor)] if axis == 0 else [len(blocks), tensor.shape[axis]]
        sums = tensor.new_empty(size, dtype=exact)
        places = torch.split(sums, step) if axis == 0 else sums
        for block, place in zip(blocks, places, strict=True):
            _add_up(block, others, order, place)
        total = sums if axis == 0 else sums.sum(0)
    return total if order == 1 else total.sqrt()


def _add_up(block: Tensor, others: list[int], order: int, sums: Tensor) -> None:
    """Put the sums over the other axes, of absolute values or squares, in their place."""
    exact = block.to(sums.dtype)
    powers = exact.abs() if order == 1 else exact.square()
    if others:
        torch.sum(powers, others, out=sums)
    else:
        sums.copy_(powers)


def numbers_at(tensor: Tensor, axis: int) -> int:
    """How many numbers lie at each place of an axis."""
    return tensor.numel() // max(1, tensor.shape[axis])


def mean_absolute(tensor: Tensor, axis: int) -> Tensor:
    """The mean absolute weight at each place of an axis."""
    return norms_of(tensor, axis, 1).double() / numbers_at(tensor, axis)


def reduced(found: Sequence[Values], count: int, how: Reduction) -> NDArray[np.float64]:
    """One value a channel of those at all of its places.

    Args:
        found: the members, in order.
        count: how many channels there are.
        how: `mean`, `sum` and `max` are over the places of all members; `first` is that of the
            first place.

    Returns:
        Shape `(..., count)`; zero for channels at no place.
    """
    if not found:
        return np.zeros(count)
    channels = np.concatenate([places for places, _ in found])
    values = np.concatenate([values for _, values in found], axis=-1)
    order = np.argsort(channels, kind="stable")
    order = order[channels[order] >= 0]
    in_order = channels[order]
    starts = np.flatnonzero(np.diff(in_order, prepend=-1))
    result = np.zeros((*values.shape[:-1], count))
    if len(starts):
        members = np.diff(starts, append=len(order))
        result[..., in_order[starts]] = _REDUCTIONS[how](values[..., order], starts, members)
    return result


_REDUCTIONS: dict[Reduction, Callable[[Any, Any, Any], Any]] = {
    "mean": lambda values, starts, members: np.add.reduceat(values, starts, axis=-1) / members,
    "sum": lambda values, starts, _: np.add.reduceat(values, starts, axis=-1),
    "max": lambda values, starts, _: np.maximum.reduceat(values, starts, axis=-1),
    "first": lambda values, starts, _: values[..., starts],
}


def normalized(
    dependencies: Dependencies, scores: NDArray[np.float64], how: Normalization
) -> NDArray[np.float64]:
    """Scores that compare between groups as `how` says."""
    if how == "none" or not len(scores):
        return scores
    groups = numbered_groups(dependencies)
    means = np.bincount(groups, weights=scores) / np.bincount(groups)
    result: NDArray[np.float64] = scores / np.maximum(means, _SMALLEST)[groups]
    return result


def numbered_groups(dependencies: Dependencies) -> NDArray[np.int64]:
    """The group of each channel, numbered from 0; what no layer makes is one group, too."""
    groups = groups_of(dependencies)
    first: int = groups.min(initial=0)  # -1 where no layer makes a channel
    return groups - first


def scores_of(context: ScoringContext, found: Sequence[Values], how: Choice) -> NDArray[np.float64]:
    """One score a channel of the values of its members, shape `(count,)`; see `finished`."""
    return finished(context, reduced(found, context.dependencies.count, how.reduce), found, how)


def finished(
    context: ScoringContext,
    scores: NDArray[np.float64],
    found: Sequence[Values],
    how: Choice,
) -> NDArray[np.float64]:
    """Scores in which no channel is without one, and which compare as the user wants it.

    A channel with no member, such as one without a norm where norms are scored, or one that only a
    product of attention reads where consumers are, is scored by its magnitude within its group,
    times the mean of the scores that there are.

    Args:
        context: what is scored.
        scores: one a channel, shape `(count,)`.
        found: the members that they are of.
        how: the choice.
    """
    dependencies = context.dependencies
    seen = np.zeros(dependencies.count + 1, dtype=bool)
    for channels, _ in found:
        seen[channels] = True
    lacking = dependencies.removable & ~seen[:-1]
    if lacking.any():
        weights = weight_values(context, mean_absolute, PARTS)
        plain = normalized(dependencies, reduced(weights, dependencies.count, "mean"), "group")
        typical = scores[seen[:-1]].mean() if seen[:-1].any() else 1.0
        scores = np.where(lacking, plain * typical, scores)
    return normalized(dependencies, scores, how.normalize)
