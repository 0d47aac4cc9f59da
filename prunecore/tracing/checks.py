"""Checks in a forward, as `assert x.isfinite().all()`, and questions after what is not finite."""

from __future__ import annotations

import dis
from bisect import bisect_right
from collections.abc import Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx

_ENDS = ("RETURN_VALUE", "RETURN_CONST", "YIELD_VALUE", "FOR_ITER")


def way_past(frame: FrameType) -> bool | None:
    """The answer to the condition that code has come to by which it does not raise.

    Args:
        frame: of the code, which asks for a condition to branch.

    Returns:
        `None` where it is no check: both ways go on, or neither.
    """
    steps = [step for step in dis.get_instructions(frame.f_code) if step.opname != "CACHE"]
    place = bisect_right([step.offset for step in steps], frame.f_lasti) - 1
    while place < len(steps) and _leads_to_branch(steps[place]):
        if steps[place].opname == "UNARY_NOT":
            return None  # a value that is kept
        place += 1
    if place >= len(steps):
        return None
    jump = steps[place].opname
    is_branch = jump.startswith("POP_JUMP") and jump.endswith(("IF_TRUE", "IF_FALSE"))
    if not is_branch:
        return None
    target = bisect_right([step.offset for step in steps], steps[place].argval) - 1
    on_jump, straight_on = _raises(steps[target:]), _raises(steps[place + 1 :])
    if on_jump == straight_on:
        return None
    jumps_on = jump.endswith("IF_TRUE")
    return jumps_on if straight_on else not jumps_on


def _leads_to_branch(step: dis.Instruction) -> bool:
    """True for what may stand before a branch; a comparison there asks by itself from 3.13 on."""
    return step.opname in ("TO_BOOL", "UNARY_NOT", "NOP") or step.argrepr.startswith("bool(")


def _raises(steps: Sequence[dis.Instruction]) -> bool:
    """True if code comes to raise something whatever happens."""
    for step in steps:
        if step.opname in ("RAISE_VARARGS", "RERAISE"):
            return True
        if step.opname in _ENDS or "JUMP" in step.opname:
            return False
    return False


def of_finite(condition: fx.Node) -> bool | None:
    """The answer to a question after tensors that are not finite, where all of them are.

    Args:
        condition: what a forward branches on.

    Returns:
        `None` where it asks for something else.
    """
    asked: Any = condition
    negated, quantifier = False, ""
    while isinstance(asked, fx.Node):
        name = getattr(asked.target, "__name__", str(asked.target))
        if name in ("all", "any") and len(asked.all_input_nodes) == 1:
            quantifier = name
        elif name in ("not_", "invert", "logical_not"):
            negated = not negated
        elif name in _FINITE and asked.target in (name, *_FINITE[name]):
            return (name == "isfinite") != negated if quantifier else None
        else:
            return None
        asked = asked.args[0]
    return None


_FINITE = {
    name: (getattr(torch, name), getattr(Tensor, name)) for name in ("isfinite", "isinf", "isnan")
}
