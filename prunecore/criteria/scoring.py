"""How what is bound to a channel becomes one score, as a user chooses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prunecore.errors import UsageError, check_names, unknown_name

Part = Literal["producers", "consumers", "norms"]
PARTS: tuple[Part, ...] = ("producers", "consumers", "norms")

Reduction = Literal["mean", "sum", "max", "first"]
REDUCTIONS: tuple[Reduction, ...] = ("mean", "sum", "max", "first")

Normalization = Literal["group", "none"]
NORMALIZATIONS: tuple[Normalization, ...] = ("group", "none")


@dataclass(frozen=True)
class Scoring:
    """How what is bound to a channel becomes one score. `None` leaves the choice to the criterion.

    Attributes:
        members: what counts: the layers that make the channel, those that read it, the norms
            between them.
        reduce: how the members' values become one.
        normalize: `group` divides each score by the mean over its coupled group, so that groups
            compare; `none` does not.
    """

    members: tuple[Part, ...] | None = None
    reduce: Reduction | None = None
    normalize: Normalization | None = None

    def __post_init__(self) -> None:
        """Refuse what is not known.

        Raises:
            UsageError: no part is named, or a name is not known.
        """
        if self.members is not None:
            check_names("members", self.members, f"Give some of {', '.join(PARTS)}, as a tuple.")
        for kind, names, known in (
            ("member", self.members, PARTS),
            ("reduction", _given(self.reduce), REDUCTIONS),
            ("normalization", _given(self.normalize), NORMALIZATIONS),
        ):
            if names is not None and not names:
                raise UsageError(f"No {kind} is named.\nGive some of {', '.join(known)}.")
            for name in names or ():
                if name not in known:
                    raise unknown_name(kind, str(name), known)


def _given(name: str | None) -> tuple[str, ...] | None:
    return None if name is None else (str(name),)


OPEN = Scoring()  # which leaves all to the criterion
