"""Conditions: what decides which of two ways a forward goes, where both are one graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import fx

ONLY = "only"  # in a node's meta: the sides of conditions that alone compute it
TAKEN = "taken"  # in that of an assertion about sizes: which way the forward goes, a `Taken`
OPTIONAL = "optional"  # in an input's meta: that it may be `None`


@dataclass(frozen=True)
class Condition:
    """What decides which of two ways a forward goes.

    Attributes:
        argument: the name of the argument that is a tensor or `None`; empty where it is something
            else.
        sizes: the number of a branch on sizes, by the ways that those before it have gone; empty
            where it is no such branch. Where both are empty, `self.training` decides.
    """

    argument: str = ""
    sizes: str = ""

    def text(self, holds: bool) -> str:
        """The condition, or that it does not hold, as it stands behind an `if`."""
        if self.argument:
            return f"{self.argument} is {'not ' * holds}None"
        return f"{'not ' * (not holds)}self.training"


@dataclass(frozen=True)
class Taken:
    """Which way a forward goes where it branches on sizes.

    Attributes:
        number: of the branch: `branch`, and a digit for the way that each before it has gone.
        holds: whether what it asks for holds.
    """

    number: str
    holds: bool


class ByMode(float):
    """A fraction in a merged graph that training decides on; its value is that of eval mode.

    Attributes:
        in_training: the number in training.
        in_eval: that in eval mode, as the forward has it.
    """

    in_training: float
    in_eval: float

    @classmethod
    def of(cls, in_training: float, in_eval: float) -> ByMode:
        """The number of each mode."""
        number = cls(in_eval)
        number.in_training, number.in_eval = in_training, in_eval
        return number

    def __repr__(self) -> str:
        """What it is, which no number is."""
        return f"{self.in_training!r} or {self.in_eval!r}"


# A condition and whether it holds.
Side: TypeAlias = tuple[Condition, bool]

IN_TRAINING = Condition()


def choose(condition: Condition, if_so: Any, if_not: Any) -> Any:
    """Stands in a merged graph for `if_so if condition else if_not`."""
    raise NotImplementedError("a merged graph is written, or run by what knows its conditions")


def decide(conditions: Any, number: str, word: str = "") -> Any:
    """Stands in a merged graph where a forward branches on sizes, before both ways.

    Args:
        conditions: what it asks for, one or several.
        number: of the branch, the last one where there are several.
        word: `and` or `or`, which stands between several.
    """
    raise NotImplementedError("a merged graph is written, or run by what knows its conditions")


def guards_of(graph: fx.Graph) -> list[fx.Node]:
    """The assertions of a trace that say which way it goes, in order."""
    return [node for node in graph.nodes if TAKEN in node.meta]


def only_in(node: fx.Node) -> tuple[Side, ...]:
    """The sides of conditions that alone compute a node, the outermost first."""
    sides: tuple[Side, ...] = node.meta.get(ONLY, ())
    return sides


def deciding_on(node: fx.Node) -> list[Condition]:
    """The conditions that a node of a merged graph depends on, the outermost first."""
    own = [chosen_by(node)] if node.target is choose else []
    return [*(condition for condition, _ in only_in(node)), *own]


def chosen_by(choice: fx.Node) -> Condition:
    """The condition of a `choose`."""
    condition: Any = choice.args[0]
    assert isinstance(condition, Condition)
    return condition


def chosen(choice: fx.Node, holding: Mapping[Condition, bool]) -> Any:
    """What `choose` stands for: a node, or `None`.

    Args:
        choice: the node of it.
        holding: which conditions hold; the others do not.
    """
    return choice.args[1 if holding.get(chosen_by(choice), False) else 2]


def is_run(node: fx.Node, holding: Mapping[Condition, bool]) -> bool:
    """True if a node of a merged graph is computed.

    Args:
        node: the node.
        holding: which conditions hold; the others do not.
    """
    return all(holding.get(condition, False) == side for condition, side in only_in(node))
