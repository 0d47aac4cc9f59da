"""What a network's size is counted in, and goals: how much of it is to be left."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from typing import Literal

from prunecore.errors import UsageError
from prunecore.escaping import shown_value

Target = Literal["params", "macs", "bytes", "channels", "latency"]

COUNTED: tuple[Target, ...] = ("params", "macs", "bytes", "channels")  # exactly, with no machine

TARGETS: tuple[Target, ...] = (*COUNTED, "latency")


_PREFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}


# Of what may stand behind a number: the prefix and the target.
_UNITS: dict[str, tuple[str, Target]] = {
    **{f"{prefix}-{target}": (prefix, target) for target in COUNTED for prefix in _PREFIXES},
    **{f"{prefix}B": (prefix, "bytes") for prefix in _PREFIXES},
    **{unit: (unit, "latency") for unit in ("s", "ms", "us")},
}


_MILLISECONDS = {"s": Decimal(1000), "ms": Decimal(1), "us": Decimal("0.001")}


_GOAL = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)(\D.*)", re.ASCII)


_REMEDY = (
    "Give a number and its unit: 5M-params, 1.5G-macs, 800k-bytes, 12MB, 500-channels or 12ms."
)


@dataclass(frozen=True)
class Goal:
    """What is to be left of a network.

    Attributes:
        text: as it is written, `5M-params`; the same for all spellings of one unit.
        target: what is counted; of channels, those that may go.
        number: how many; of latency, milliseconds.
    """

    text: str
    target: Target
    number: float

    @property
    def name(self) -> str:
        """The part of a Python name that stands for it: `5M_params`."""
        return self.text.replace(".", "_").replace("-", "_")


def read_goal(text: object) -> Goal:
    """A goal from what a user writes.

    Args:
        text: a number, `k`, `M` or `G` where wanted, and what is counted: `5M-params`, `1.5G-macs`,
            `500-channels`, `12M-bytes`, or `12MB` for the latter; of latency `12ms`, `800us`, `2s`.

    Raises:
        UsageError: it is none.
    """
    match = _GOAL.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise UsageError(f"{shown_value(text)} is no goal.\n{_REMEDY}")
    unit = match[2].strip()
    if unit not in _UNITS:
        near = [known for known in _UNITS if known.lower() == unit.lower()]
        near = near or get_close_matches(unit, _UNITS, n=1, cutoff=0.5)
        hint = f" Did you mean {shown_value(match[1] + near[0])}?" if near else ""
        raise UsageError(
            f"Unknown unit {shown_value(unit)} of the goal {shown_value(text)}.{hint}\n{_REMEDY}"
        )
    prefix, target = _UNITS[unit]
    amount = Decimal(match[1])
    is_time = target == "latency"
    number = float(amount * _MILLISECONDS[prefix]) if is_time else int(amount * _PREFIXES[prefix])
    if not number:
        raise UsageError(f"The goal {shown_value(text)} leaves nothing.\n{_REMEDY}")
    written = format(amount, "f")
    written = written.rstrip("0").rstrip(".") if "." in written else str(int(amount))
    return Goal(f"{written}{prefix}" if is_time else f"{written}{prefix}-{target}", target, number)
