"""What users choose of a criterion, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from prunecore.criteria.members import Choice, completed
from prunecore.criteria.scoring import Scoring
from prunecore.errors import UsageError

DEFAULT = Choice(("producers",), "mean", "group")


def test_what_is_left_open_is_the_criterions() -> None:
    assert completed(Scoring(), DEFAULT) == DEFAULT


def test_what_is_chosen_wins() -> None:
    chosen = Scoring(("norms", "consumers"), "max", "none")
    assert completed(chosen, DEFAULT) == Choice(("norms", "consumers"), "max", "none")


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ({"members": ("producer",)}, "Unknown member 'producer'.*'producers'"),
        ({"members": ()}, "No member is named.\nGive some of producers, consumers, norms."),
        ({"reduce": "avg"}, "Unknown reduction 'avg'.*\nKnown: first, max, mean, sum."),
        ({"normalize": "groups"}, "Unknown normalization 'groups'.*'group'"),
    ],
)
def test_what_is_not_known_is_refused(choice: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Scoring(**choice)
