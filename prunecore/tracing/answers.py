"""Traces of a forward that asks what it is given, once what it calls has an answer."""

from __future__ import annotations

from collections.abc import Callable

from torch import fx

from prunecore.tracing.stand_ins.asked import counting
from prunecore.tracing.stand_ins.numbers import OF_SIZES
from prunecore.tracing.stand_ins.patches import standing_in
from prunecore.tracing.tracer import OneLevel

_MOST_ASKING = 100  # modules of Python; there are more only where code is made while it runs


def answered(
    attempt: Callable[..., tuple[OneLevel, Exception | None]],
) -> tuple[OneLevel, Exception | None]:
    """Trace a forward; where it asks what stand-ins are, as often as other modules of Python ask.

    Args:
        attempt: traces it, as `_attempt` does.
    """
    tracer, error = attempt()
    if not tracer.asking and not error:
        return tracer, error
    asking, computes = [*tracer.asking, *counting(error)], True
    while len(asking) <= _MOST_ASKING:
        with standing_in(asking):
            tracer, error = attempt(computes_numbers=computes)
        counted = [id(variables) for variables, name in asking if name == "range"]
        new = [one for one in counting(error) if id(one[0]) not in counted]
        new += tracer.asking
        if error and computes and not new:  # Python may need a number, to count by
            computes, asking = False, [one for one in asking if one[1] not in OF_SIZES]
        elif not new:
            return tracer, error
        asking = [*asking, *new]
    return tracer, fx.proxy.TraceError("it asks what it is given in code that it makes anew")
