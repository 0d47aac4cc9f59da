"""Sensitivity: how far a network agrees with itself once a single group of layers is narrower.

After Li et al., "Pruning Filters for Efficient ConvNets", 2017, arXiv 1608.08710, who prune each
layer alone and look at accuracy; here what is left is refitted, and agreement with the original
stands in for accuracy, so that no labels are asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunecore.channels.dependencies import ChannelArray, Dependencies, groups_of
from prunecore.channels.keep import Keep
from prunecore.errors import LevelError, UsageError
from prunecore.isolation.random_states import OwnDraws, kept_random_states
from prunecore.planning.choices import removal_order
from prunecore.planning.plan import nothing_to_prune, plan_of
from prunecore.planning.request import Limits
from prunecore.recovery.agreement import agreement, outputs_of
from prunecore.recovery.steps import Networks, RepeatedRefit, batch_of
from prunecore.traced_model import TracedModel
from prunecore.tracing.stand_ins.patches import beside_others

SHARES = (25, 50, 75)  # percent of the channels of a group that may go

_VALUES = 96 * 3 * 224 * 224  # of all images: each runs through as many networks as are tried
_JUDGING = 3  # one image in so many is held back

# Called after each group with how many groups are done, and how many there are.
OnGroup = Callable[[int, int], object]


@beside_others()
def sensitivity(
    traced: TracedModel, shares: Sequence[float] = SHARES, on_group: OnGroup | None = None
) -> dict[str, Any]:
    """Prune each group of coupled layers alone, refit, and compare with the original.

    The original runs once, for all of the networks; none of them is verified.

    Args:
        traced: the network, with calibration images.
        shares: percentages of a group's channels that may go.
        on_group: called after each group.

    Returns:
        Plain values: the `mode` by which the channels of a group go, how many `images` were
        refitted on and `held_back`, and the `groups` with their `layers` and `levels`. Of each
        level that the group can reach the share that is `asked`, in percent of the channels that
        may go, how many are `removed`, and the `agreement` and `error` on the images held back.

    Raises:
        UsageError: there are no images.
        LevelError: there is nothing to prune.
    """
    if traced.images is None:
        raise UsageError(
            "Sensitivity is told by agreement on images, and none are given.\n"
            "Give some: --calibrate FOLDER, or calibration= in Python."
        )
    dependencies = traced.dependencies
    if not dependencies.removable.any():
        raise LevelError(nothing_to_prune(dependencies))
    images, held = _parts(traced.images.tensor)
    fitted = copy.copy(traced)
    fitted.images = replace(traced.images, tensor=images)
    order = removal_order(dependencies, fitted.scores(), Limits())
    if not len(order):
        raise LevelError(
            f"No channel may go: a layer keeps {Limits.min_channels} at least.\n"
            "Give a network with wider layers."
        )
    groups = groups_of(dependencies)
    numbers = np.unique(groups[order])
    trials, found = _Trials(fitted, images, held), []
    for done, group in enumerate(numbers, start=1):
        members = np.flatnonzero(dependencies.removable & (groups == group))
        going = order[groups[order] == group]
        levels = [
            {"asked": share, "removed": number, **trials.without(going[:number])}
            for share in shares
            if 0 < (number := round(share / 100 * len(members))) <= len(going)
        ]
        found.append({"layers": _making(dependencies, members), "levels": levels})
        if on_group is not None:
            on_group(done, len(numbers))
    counts = {"images": len(images), "held_back": len(held)}
    return {"mode": fitted.mode(), **counts, "groups": found}


def _parts(images: Tensor) -> tuple[Tensor, Tensor]:
    """The images to refit on, and those held back; in all no more than can run so often."""
    count = min(len(images), max(2, _VALUES // images[0].numel()))
    places = torch.arange(count) * len(images) // count  # evenly, as images of a class lie together
    is_held = torch.arange(count) % min(_JUDGING, count) == 0
    return images[places[~is_held]], images[places[is_held]]


class _Trials:
    """Takes channels of a network away, refits what is left, and compares it with the whole.

    Args:
        traced: the network.
        images: what is refitted on, shape `(n, ...)`.
        held: what agreement is told by, shape `(m, ...)`.
    """

    def __init__(self, traced: TracedModel, images: Tensor, held: Tensor) -> None:
        self._traced, self._held = traced, held
        self._asked = traced.request(50, recover=(), verify=False)  # of a plan the level is no use
        with torch.no_grad(), kept_random_states(), OwnDraws():
            self._refit = RepeatedRefit(traced.observed, traced.layers, images, seed=0)
            self._expected = outputs_of(traced.observed, held, batch_of(held))

    def without(self, going: ChannelArray) -> Mapping[str, float | None]:
        """The `agreement` and `error` of the network without some channels."""
        traced, dependencies = self._traced, self._traced.dependencies
        kept = np.ones(dependencies.count, dtype=bool)
        kept[going] = False
        plan = plan_of(dependencies, kept, (), 50, "params", Limits())
        small = traced.carry_out(self._asked, plan).model.eval()
        keep = Keep(traced.model, dependencies, kept)
        layers = traced.layers_of(small)
        with torch.no_grad(), kept_random_states(), OwnDraws():
            self._refit.run(Networks(traced.observed, small, keep, traced.layers, layers))
            found = agreement(self._expected, outputs_of(small, self._held, batch_of(self._held)))
        return {
            "agreement": None if found.top1 is None else round(found.top1, 4),
            "error": float(f"{found.error:.4g}"),
        }


def _making(dependencies: Dependencies, channels: ChannelArray) -> list[str]:
    """The layers that make some of these channels."""
    return [
        path
        for path, index in dependencies.layers.items()
        if np.isin(dependencies.axes[index], channels).any()
    ]
