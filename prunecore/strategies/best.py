"""Mode `best`: several criteria and scopes are tried, and what agrees most with the original wins.

No criterion is best everywhere, but which one is can be told without labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from prunecore.errors import LevelError, UsageError
from prunecore.planning.request import SCOPES, Request
from prunecore.strategies.iterative import carry_out
from prunecore.traced_model import PrunedModel, TracedModel

BEST = "best"

_MODES = ("surgeon", "lamp", "fisher", "magnitude", "fpgm")


def carry_out_best(traced: TracedModel, request: Request) -> PrunedModel:
    """Prune and recover by several criteria and scopes, and write the best.

    Args:
        traced: the network, with calibration images.
        request: what is asked; of the criterion, the seed and the scoring count.

    Returns:
        The smaller network. Its report names the criterion that won under `mode`, and all that were
        tried under `tried`, with the agreement and error of each on the images held back.

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
    tried: list[dict[str, Any]] = []
    asked: list[Request] = []
    reason: LevelError | None = None
    for scope in SCOPES:
        for mode in _MODES:
            limits = replace(request.limits, scope=scope)
            one = replace(request, mode=mode, limits=limits, verify=False)
            try:
                report = carry_out(traced, one).report
            except LevelError as error:
                reason = error
                continue
            asked.append(replace(one, verify=request.verify))
            tried.append({"mode": mode, "scope": scope, **_agreement(report)})
    if not tried:
        assert reason is not None
        raise reason
    first = min(range(len(tried)), key=lambda number: _rank(tried[number]))
    best = carry_out(traced, asked[first])
    best.report["tried"] = tried
    return best


def _agreement(report: Mapping[str, Any]) -> dict[str, Any]:
    """How far the network agrees with its original after the last step."""
    step = report["recovered"][-1]
    now = 0 if step["undone"] else 1
    return {"agreement": step["agreement"][now], "error": step["error"][now]}


def _rank(tried: Mapping[str, Any]) -> tuple[float, float]:
    """What is smaller agrees more: in predictions first, then in outputs."""
    return (-(tried["agreement"] or 0.0), tried["error"])
