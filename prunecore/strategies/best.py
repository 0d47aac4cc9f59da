"""Mode `best`: of several criteria and scopes, one that agrees most with the original.

No criterion is best everywhere, but which one is can be told without labels. Half of the images are
fitted on, the other half judges; what wins is made anew with all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from prunecore.errors import LevelError, UsageError, unknown_name
from prunecore.planning.request import SCOPES, Request
from prunecore.plugins import loading
from prunecore.pruned_model import PrunedModel
from prunecore.recovery.agreement import is_clearly_less
from prunecore.recovery.steps import agreement_on
from prunecore.registry import hyphened
from prunecore.strategies.iterative import carry_out_in_steps
from prunecore.traced_model import TracedModel
from prunecore.tracing.stand_ins.patches import beside_others

BEST = "best"

_MODES = (  # what is best most often first
    "surgeon",
    "lamp",
    "fisher",
    "magnitude",
    "fpgm",
)


def check_mode(mode: str | None) -> None:
    """Refuse a mode that is neither that of a criterion nor `best`.

    Raises:
        UsageError: it is not known; lists the known ones.
    """
    known = {BEST, *(name for plugin in loading.load_each() for name in plugin.criteria)}
    if mode is not None and hyphened(mode) not in known:
        raise unknown_name("mode", mode, known)


@beside_others()
def carry_out_best(traced: TracedModel, request: Request) -> PrunedModel:
    """Prune and recover by several criteria and scopes, and write the best.

    Args:
        traced: the network, with calibration images.
        request: what is asked; of the criterion, the seed and the scoring count.

    Returns:
        The smaller network. Its report names the criterion that won under `mode`, and all that were
        tried under `tried`, with the agreement and error of each on half of the images.

    Raises:
        UsageError: there are no images, or nothing recovers the accuracy.
        LevelError: no criterion reaches the level.
    """
    if traced.images is None or not request.recover:
        what = "no images are given" if traced.images is None else "none is asked for"
        raise UsageError(
            f"Mode {BEST} compares networks after a step of recovery, and {what}.\n"
            "Give images (--calibrate FOLDER), and leave recover out or give refit."
        )
    images = traced.images.tensor
    half = copy.copy(traced)  # what is compared has not been fitted on what it is judged by
    half.images = replace(traced.images, tensor=images[::2])
    tried: list[dict[str, Any]] = []
    asked: list[Request] = []
    reason: LevelError | None = None
    for scope in SCOPES:
        for mode in _MODES:
            one = replace(request, mode=mode, limits=replace(request.limits, scope=scope))
            try:
                small = carry_out_in_steps(half, replace(one, verify=False))
            except LevelError as error:
                reason = error
                continue
            found = agreement_on(traced.original, small.model, images[1::2])
            asked.append(one)
            tried.append({"mode": mode, "scope": scope, **asdict(found)})
    if not tried:
        assert reason is not None
        raise reason
    best = carry_out_in_steps(traced, asked[_chosen(tried, len(images) // 2)])
    best.report["tried"] = tried
    return best


def _chosen(tried: Sequence[Mapping[str, Any]], count: int) -> int:
    """The first of those that agree as much as any, within a standard error of their share.

    Where outputs are of no classes, that of the smallest error.

    Args:
        tried: in order: what is best most often first.
        count: of the images that they were judged by.
    """
    if any(one["top1"] is None for one in tried):
        return min(range(len(tried)), key=lambda number: tried[number]["error"])
    most = max(one["top1"] for one in tried)
    near = (not is_clearly_less(one["top1"], most, count) for one in tried)
    return next(number for number, is_near in enumerate(near) if is_near)
