"""Checks in a forward, which raise something or do nothing: `assert x.isfinite().all()`."""

from __future__ import annotations

import dis
from bisect import bisect_right
from collections.abc import Sequence
from types import FrameType

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
    while place < len(steps) and steps[place].opname in ("TO_BOOL", "UNARY_NOT", "NOP"):
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


def _raises(steps: Sequence[dis.Instruction]) -> bool:
    """True if code comes to raise something whatever happens."""
    for step in steps:
        if step.opname in ("RAISE_VARARGS", "RERAISE"):
            return True
        if step.opname in _ENDS or "JUMP" in step.opname:
            return False
    return False
