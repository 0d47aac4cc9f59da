"""What is asked of one smaller network: a level of a target, a mode, and limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prunecore.errors import UsageError

Target = Literal["params", "macs", "channels"]

TARGETS: tuple[Target, ...] = ("params", "macs", "channels")


@dataclass(frozen=True)
class Limits:
    """What has to stay of a network, whatever the level.

    Attributes:
        min_channels: how many channels every layer keeps at least.
        remove_blocks: whether a residual block may go as a whole, when its inner width has come
            down to the minimum and its shortcut is the identity.
    """

    min_channels: int = 2
    remove_blocks: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no number of channels.

        Raises:
            UsageError: `min_channels` is not a whole number of at least 1.
        """
        least = self.min_channels
        if not isinstance(least, int) or isinstance(least, bool) or least < 1:
            raise UsageError(
                f"min_channels is {least!r}, not a whole number of at least 1.\n"
                "Give how many channels every layer keeps, such as 2."
            )


@dataclass(frozen=True)
class Request:
    """What is asked of one smaller network.

    Attributes:
        level: percentage of the target to remove, within (0, 100).
        mode: the importance criterion.
        target: what the level is a percentage of.
        seed: of modes that draw.
        limits: what has to stay.
        name: of the factory in the written file; made from the class's name where not given.
        verify: whether to prove the written network right.
        origin: what the written file says it was made from.
        fingerprint: of all that the written set depends on; the report holds it.
    """

    level: float
    mode: str = "l1-norm"
    target: Target = "params"
    seed: int = 0
    limits: Limits = Limits()
    name: str | None = None
    verify: bool = True
    origin: str | None = None
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        """Name the mode as reports and files do, whichever way it was written."""
        object.__setattr__(self, "mode", self.mode.replace("_", "-"))
