"""Limits on one network: which of its channels may go, and in which numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from prunecore.channels.dependencies import ChannelArray, Dependencies, groups_of
from prunecore.channels.ids import FIXED
from prunecore.errors import UsageError, unknown_name
from prunecore.escaping import shown, shown_value
from prunecore.planning.request import KEEP, LayerLimits, Limits


def removal_order(
    dependencies: Dependencies, scores: NDArray[np.float64], limits: Limits
) -> ChannelArray:
    """The channels that may go, the first to go first, without the best few of each layer.

    Args:
        dependencies: the network's channels.
        scores: one a channel, shape `(dependencies.count,)`, low goes first.
        limits: what has to stay.

    Raises:
        UsageError: a pattern matches no layer, or two limits contradict one another.
    """
    may_go = dependencies.removable.copy()
    least = _least_places(dependencies, limits)
    # the narrowest first: what it holds counts for those that have its channels among others
    for index in sorted(least, key=lambda index: len(dependencies.axes[index])):
        array = dependencies.axes[index]
        channels, counts = np.unique(array[array != FIXED], return_counts=True)
        best_first = np.lexsort((-scores[channels], may_go[channels]))
        before = np.cumsum(counts[best_first]) - counts[best_first]
        held = before < least[index] - (len(array) - counts.sum())
        may_go[channels[best_first[held]]] = False
    candidates = np.flatnonzero(may_go)
    keys = scores if limits.scope == "global" else _shares(dependencies, scores)
    return candidates[np.argsort(keys[candidates], kind="stable")]


def _shares(dependencies: Dependencies, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of its group that goes before each channel, shape `(dependencies.count,)`."""
    groups = groups_of(dependencies)
    channels = np.flatnonzero(dependencies.removable)
    channels = channels[np.lexsort((scores[channels], groups[channels]))]
    sizes = np.bincount(groups[channels], minlength=1)
    starts = np.cumsum(sizes) - sizes
    of = groups[channels]
    shares = np.zeros(dependencies.count)
    shares[channels] = (np.arange(len(channels)) - starts[of] + 0.5) / sizes[of]
    return shares


def _least_places(dependencies: Dependencies, limits: Limits) -> dict[int, int]:
    """How many places stay of an array of channels, by index into axes."""
    least = dict.fromkeys(dependencies.parts, 1)
    own = _own_limits(dependencies, limits)
    for path, index in dependencies.layers.items():
        width = len(dependencies.axes[index])
        given = own.get(path, {})
        highest = given.get("max_level", limits.max_level)
        share = 0 if highest is None else math.ceil(width * (100 - highest) / 100 - 1e-9)
        places = max(int(given.get("min_channels", limits.min_channels)), share)
        least[index] = max(least.get(index, 0), places)
    return least


def _own_limits(dependencies: Dependencies, limits: Limits) -> dict[str, dict[str, float]]:
    """The limits that patterns give layers, by path; what is kept has a `max_level` of 0."""
    own: dict[str, dict[str, float]] = {}
    given_by: dict[tuple[str, str], str] = {}
    for pattern, what in limits.layers.items():
        paths = [path for path in dependencies.layers if fnmatchcase(path, pattern)]
        if not paths:
            raise unknown_name("layer", pattern, dependencies.layers)
        for path in paths:
            for name, value in ({"max_level": 0} if isinstance(what, str) else what).items():
                first = given_by.setdefault((path, name), pattern)
                known = own.setdefault(path, {}).setdefault(name, value)
                if known != value:
                    raise _contradiction(path, limits.layers, (first, pattern))
            width = len(dependencies.axes[dependencies.layers[path]])
            if own[path].get("min_channels", 0) > width:
                raise UsageError(
                    f"min_channels of {shown_value(pattern)} is {own[path]['min_channels']:g}, and "
                    f"{shown(path)} has {width} channels.\nGive at most {width}, or {KEEP!r}."
                )
    return own


def _contradiction(
    path: str, layers: Mapping[str, LayerLimits], patterns: Sequence[str]
) -> UsageError:
    said = " and ".join(
        f"{shown_value(layers[pattern])} by {shown_value(pattern)}" for pattern in patterns
    )
    return UsageError(
        f"The limits of {shown(path) or 'the network'} contradict one another: "
        f"it is given {said}.\nGive each layer one value."
    )


@dataclass(frozen=True)
class Steps:
    """The numbers of channels that may go of each set of them, so that widths are as asked.

    Attributes:
        sets: the set of each channel of the order, shape `(order,)`.
        ranks: how many channels of its set go before each one, shape `(order,)`.
        first: the least number that goes of each set, shape `(sets,)`.
        step: by how many it grows.
        most: the largest number.
    """

    sets: ChannelArray
    ranks: ChannelArray
    first: ChannelArray
    step: ChannelArray
    most: ChannelArray

    def nearest(self, number: int) -> ChannelArray:
        """How many go of each set, when the first channels of the order are to go.

        Args:
            number: of channels of the order.

        Returns:
            Shape `(sets,)`.
        """
        counts = np.bincount(self.sets[:number], minlength=len(self.first))
        steps = (2 * (counts - self.first) + self.step) // (2 * self.step)
        return np.clip(self.first + self.step * steps, self.first, self.most)


def steps_of(dependencies: Dependencies, order: ChannelArray, round_to: int) -> Steps:
    """In which numbers channels go, so that every width that is cut is a multiple.

    Channels that the same layers make, at as many places of each, are a set: in whatever order they
    go, the same numbers of them leave the same widths. A set that cannot be cut to a multiple stays
    whole.

    Args:
        dependencies: the network's channels.
        order: those that may go, the first to go first.
        round_to: what widths are to be multiples of.
    """
    if round_to == 1:
        zeros = np.zeros(len(order), dtype=np.int64)
        whole = np.array([len(order)])
        return Steps(zeros, np.arange(len(order)), 0 * whole, 0 * whole + 1, whole)
    layers = list(dict.fromkeys(dependencies.layers.values()))
    removable = np.flatnonzero(dependencies.removable)
    places = [
        np.unique(dependencies.axes[index], return_counts=True) for index in layers
    ]  # of each layer, its channels and at how many places each lies
    # equal sums of random numbers stand for equal places
    sums = np.zeros(dependencies.count + 1, dtype=np.uint64)  # the last is for fixed places
    draws = np.random.default_rng(0).integers(2**64, size=len(layers), dtype=np.uint64)
    for (channels, counts), drawn in zip(places, draws, strict=True):
        sums[channels] += counts.astype(np.uint64) * drawn
    _, representatives, set_of = np.unique(sums[removable], return_index=True, return_inverse=True)
    sets = np.full(dependencies.count + 1, -1)
    sets[removable] = set_of
    sizes = np.bincount(set_of, minlength=len(representatives))
    kinds = np.zeros((len(layers), len(sizes)), dtype=np.int64)
    for row, (channels, counts) in zip(kinds, places, strict=True):
        of = sets[channels]
        row[of[of >= 0]] = counts[of >= 0]
    widths = np.array([len(dependencies.axes[index]) for index in layers])
    rest = widths - kinds @ sizes  # places that stay in any case
    taken = np.zeros(len(layers), dtype=bool)  # whether the rest of a layer is dealt with
    count = np.bincount(sets[order], minlength=len(sizes))
    first, step, most = np.zeros_like(sizes), np.ones_like(sizes), np.zeros_like(sizes)
    for number, size in enumerate(sizes.tolist()):
        of = np.flatnonzero(kinds[:, number])
        stays = np.where(taken[of], 0, rest[of])[:, None]
        left = stays + kinds[of, number][:, None] * (size - np.arange(count[number] + 1))
        fitting = np.flatnonzero((left % round_to == 0).all(axis=0))
        taken[of] = True
        if len(fitting):
            first[number], most[number] = fitting[[0, -1]]
            step[number] = fitting[1] - fitting[0] if len(fitting) > 1 else 1
    ranks = np.zeros(len(order), dtype=np.int64)
    by_set = np.argsort(sets[order], kind="stable")
    ranks[by_set] = np.arange(len(order)) - (np.cumsum(count) - count)[sets[order][by_set]]
    return Steps(sets[order], ranks, first, step, most)
