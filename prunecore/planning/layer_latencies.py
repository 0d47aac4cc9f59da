"""Filling a table of layer latencies, by measuring networks of several widths."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from prunecore.channels.dependencies import Dependencies, groups_of
from prunecore.errors import LevelError
from prunecore.latency.table import LatencyTable, LayerTimes
from prunecore.latency.timing import take_turns, timing_of
from prunecore.planning.choices import Choice, removal_order, steps_of
from prunecore.planning.latency import quietly
from prunecore.planning.lookup import layer_axes, widths_of
from prunecore.planning.plan import nothing_to_prune
from prunecore.planning.request import Limits
from prunecore.planning.stopwatch import Stopwatch, running

NETWORKS = 16  # that a table is filled with

_SECONDS = 3.0  # that the turns of one of them may take

_EVEN = 4  # of these, whose groups all keep the same share

_LEAST_SHARE = 0.1  # of a group's channels that stay, in the narrowest of them


# Called after each network with how many are done, and how many there are.
OnNetwork = Callable[[int, int], object]


def fill_table(
    dependencies: Dependencies,
    stopwatch: Stopwatch,
    name: str,
    round_to: int = 1,
    on_network: OnNetwork | None = None,
) -> LatencyTable:
    """Measure the layers of a network in it and in narrower ones, whose groups differ in width.

    Args:
        dependencies: the network's channels.
        stopwatch: writes and runs networks.
        name: what reports call the table.
        round_to: what the widths of the narrower networks are multiples of.
        on_network: called after each network.

    Raises:
        LevelError: no channel of the network can be removed.
        PrunecoreError: a network cannot be run, or the machine is too busy to tell.
    """
    if not dependencies.removable.any():
        raise LevelError(nothing_to_prune(dependencies))
    axes = layer_axes(dependencies)
    totals: list[float] = []
    widths: dict[str, list[list[int]]] = {path: [] for path in axes}
    times: dict[str, list[float]] = {path: [] for path in axes}
    for done, kept in enumerate(_choices(dependencies, round_to), start=1):
        runs = stopwatch.runs_of_layers(Choice(np.zeros(0, dtype=np.int64), kept, ()), axes)
        calls = [run for each in runs.values() for run in each]
        with running():
            turns = quietly(
                functools.partial(take_turns, calls, _SECONDS),
                lambda turns: timing_of(turns[0]),
                remedy="and measure again",
            )
        medians = iter(np.median(turns, axis=1).tolist())
        sums = {path: sum(next(medians) for _ in each) for path, each in runs.items()}
        totals.append(sums.pop(""))
        counts = widths_of(dependencies, kept)
        for path, ms in sums.items():
            widths[path].append([counts[index] for index in axes[path]])
            times[path].append(ms)
        if on_network is not None:
            on_network(done, NETWORKS)
    return LatencyTable(
        name=name,
        backend=stopwatch.backend,
        device=f"{platform.system()} {platform.machine()}",
        threads=torch.get_num_threads(),
        ms=np.array(totals),
        layers={
            path: LayerTimes(np.array(widths[path], dtype=np.float64), np.array(times[path]))
            for path in axes
        },
    )


def _choices(dependencies: Dependencies, round_to: int) -> Iterator[NDArray[np.bool_]]:
    """The whole network, some that are as narrow throughout, and others of many widths.

    Of the latter each group keeps a share that is drawn for it.
    """
    yield np.ones(dependencies.count, dtype=bool)
    draw = np.random.default_rng(0)
    groups = groups_of(dependencies)
    numbers = np.unique(groups[dependencies.removable])
    # of each group the shares are spread evenly over the networks, each time in another order
    spread = np.linspace(_LEAST_SHARE, 1, NETWORKS - 1 - _EVEN)
    even = np.linspace(_LEAST_SHARE, 1, _EVEN, endpoint=False)
    drawn = np.stack([draw.permutation(spread) for _ in numbers], axis=1)
    shares = np.concatenate([np.repeat(even[:, None], len(numbers), axis=1), drawn])
    for row in shares:
        order = removal_order(dependencies, draw.random(dependencies.count), Limits(min_channels=1))
        kept = np.ones(dependencies.count, dtype=bool)
        for number, share in zip(numbers, row, strict=True):
            own = order[groups[order] == number]
            steps = steps_of(dependencies, own, round_to)
            counts = steps.nearest(round((1 - share) * len(own)))
            kept[own[steps.ranks < counts[steps.sets]]] = False
        yield kept
