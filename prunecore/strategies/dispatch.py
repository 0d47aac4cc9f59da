"""Which way a request is carried out."""

from __future__ import annotations

from prunecore.planning.request import Request
from prunecore.strategies.best import BEST, carry_out_best
from prunecore.strategies.iterative import OnStep, carry_out
from prunecore.traced_model import PrunedModel, TracedModel


def carry_out_by_strategy(
    traced: TracedModel, request: Request, on_step: OnStep | None = None
) -> PrunedModel:
    """Carry out what is asked: by the best of several criteria, in several steps, or at once.

    Args:
        traced: the network.
        request: what is asked.
        on_step: called between steps; not for mode `best`, of which most networks are thrown away.

    Raises:
        PrunecoreError: with what is wrong, where, and what to do.
    """
    if request.mode == BEST:
        return carry_out_best(traced, request)
    if request.steps > 1:
        return carry_out(traced, request, on_step)
    return traced.carry_out(request)
