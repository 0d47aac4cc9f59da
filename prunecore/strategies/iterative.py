"""Pruning in several steps: what goes next is chosen by what the refitted network makes of it.

Iterative pruning, as in Han et al., "Learning both Weights and Connections for Efficient Neural
Networks", 2015, arXiv 1506.02626, with a refit, or training of the user's own, in the place of
theirs.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunecore.channels.dependencies import Dependencies
from prunecore.channels.keep import Keep
from prunecore.channels.names import is_within
from prunecore.errors import LevelError, UsageError, WeightsError
from prunecore.escaping import shown
from prunecore.planning.choices import least_widths
from prunecore.planning.plan import Plan, plan_of
from prunecore.planning.request import KEEP, LayerLimits, Limits, Request
from prunecore.pruned_model import PrunedModel
from prunecore.traced_model import TracedModel
from prunecore.writing.building import transfer_weights

# Called with the smaller network of a step and the step's number, from 1; what it trains counts.
OnStep = Callable[[PrunedModel, int], object]


def carry_out_in_steps(
    traced: TracedModel, request: Request, on_step: OnStep | None = None
) -> PrunedModel:
    """Prune in as many steps as are asked for; the network is written and proven after the last.

    Each step removes as large a share of the target as the others. Channels are scored by the
    network as the step before has left it. Weights are recovered from those of the original, unless
    the user's function may have changed them: refits upon refits drift.

    Args:
        traced: the network.
        request: what is asked.
        on_step: called after each step but the last; the weights that it changes are gone on with.

    Raises:
        PrunecoreError: with what is wrong, where, and what to do.
    """
    if request.steps == 1:
        return traced.carry_out(request)
    whole = traced.plan_for(request)  # what cannot be reached at all is told first
    told: list[dict[str, Any]] = []
    small, plan, carried = None, None, None
    for number in range(1, request.steps + 1):
        is_last = number == request.steps
        level = whole.asked * number / request.steps
        plan, carried = _next(traced, request, small, plan, level, whole)
        step = replace(request, steps=1, verify=request.verify and is_last)
        small = traced.carry_out(step, plan, None if on_step is None else carried)
        told = [*told, *small.report["recovered"]] if on_step else small.report["recovered"]
        if on_step is not None and not is_last:
            told += _trained(small, number, on_step)
    assert small is not None
    small.report.update(recovered=told, steps=request.steps)
    return small


def _next(
    traced: TracedModel,
    request: Request,
    small: PrunedModel | None,
    before: Plan | None,
    level: float,
    whole: Plan,
) -> tuple[Plan, Mapping[str, Tensor] | None]:
    """What stays after a step, and the weights that it begins with; at first those of the original.

    Args:
        traced: the original.
        request: what is asked in all.
        small: the network as the step before has left it.
        before: what that has of the original.
        level: percentage of the original's target that is to be gone after the step.
        whole: the plan of all steps in one.
    """
    asked: dict[str, Any] = {"asked": whole.asked, "target": whole.target, "limits": whole.limits}
    if small is None or before is None:
        first = traced.plan_for(replace(request, level=level, target=whole.target))
        return replace(first, **asked, goal=whole.goal), None
    inner = traced.like(small.model)
    relative = 100 * (1 - (100 - level) / (100 - before.achieved))
    limits = _limits_of(traced.dependencies, inner.dependencies, request.limits)
    wanted = replace(request, level=relative, target=whole.target, limits=limits)
    if not 0 < relative < 100:  # the step before has gone so far already
        return before, small.model.state_dict()
    try:
        plan = inner.plan_for(wanted)
    except LevelError as error:
        raise LevelError(
            f"A level of {whole.asked:g} cannot be reached in {request.steps} steps: after "
            f"{before.achieved:.1f} %, {str(error)[0].lower()}{str(error).splitlines()[0][1:]}\n"
            "Take fewer steps, or ask for less."
        ) from error
    kept = _composed(traced, before, inner.dependencies, plan.kept)
    paths = (*before.removed_blocks, *plan.removed_blocks)
    composed = plan_of(traced.dependencies, kept, paths, **asked)
    keep = Keep(small.model, inner.dependencies, plan.kept, plan.removed_blocks)
    return (
        replace(composed, goal=whole.goal),
        transfer_weights(small.model, keep, traced.plugins),
    )


def _composed(
    traced: TracedModel, before: Plan, inner: Dependencies, kept: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which channels of the original stay, where of the smaller network's these do."""
    outer = traced.dependencies
    keep = Keep(traced.model, outer, before.kept, before.removed_blocks)
    stays = np.append(kept, True)  # the last stands for what always does
    composed = before.kept.copy()
    for name, axes in inner.bound.items():
        for axis, index in axes.items():
            whole = outer.bound[name][axis]
            channels = outer.axes[whole][keep.place(whole)]
            gone = channels[~stays[inner.axes[index]]]
            composed[gone[gone >= 0]] = False
    return composed


def _limits_of(outer: Dependencies, inner: Dependencies, limits: Limits) -> Limits:
    """Limits of the original's layers as those of the smaller network's, which has other widths."""
    layers: dict[str, LayerLimits] = {}
    for path, least in least_widths(outer, limits).items():
        there = len(inner.axes[inner.layers[path]]) if path in inner.layers else 0
        if there and (is_within(path, outer.protected) or least >= there):
            layers[glob.escape(path)] = KEEP
        elif there and least != limits.min_channels:
            layers[glob.escape(path)] = {"min_channels": least}
    return replace(limits, max_level=None, layers=layers)


def _trained(small: PrunedModel, number: int, on_step: OnStep) -> list[dict[str, Any]]:
    """Call the user's function, and tell which tensors it has changed.

    Raises:
        UsageError: it has changed more than the values of these.
        WeightsError: one is not finite afterwards.
    """
    before = {name: tensor.clone() for name, tensor in small.model.state_dict().items()}
    kinds = _kinds(small.model)
    on_step(small, number)
    after = small.model.state_dict()
    _check_kinds(kinds, _kinds(small.model))
    changed = [name for name, tensor in after.items() if not torch.equal(tensor, before[name])]
    for name in changed:
        if not after[name].isfinite().all():
            raise WeightsError(
                f"on_step has left {shown(name)} of small.model with values that are no finite "
                "numbers (NaN or infinity).\nTrain in smaller steps: the loss has diverged."
            )
    told = {"step": "on_step", "changed": changed, "undone": False}
    return [told] if changed else []


def _kinds(network: nn.Module) -> dict[str, tuple[Any, ...]]:
    """What training leaves as it is: modules by path, and of tensors what they are like."""
    tensors = network.state_dict().items()
    return {
        **{path: (module, type(module)) for path, module in network.named_modules()},
        **{name: (tensor.shape, tensor.dtype, tensor.device) for name, tensor in tensors},
    }


def _check_kinds(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Refuse that training has changed more than the values of tensors."""
    for name in {**before, **after}:
        if before.get(name) != after.get(name):
            how = "is another one, or of another shape, type or device"
            how = "is gone" if name not in after else "is new" if name not in before else how
            raise UsageError(
                "on_step has changed more of small.model than the values of its weights: "
                f"{shown(name)} {how}.\nTrain the weights in place, and leave the layers as they "
                "are."
            )
