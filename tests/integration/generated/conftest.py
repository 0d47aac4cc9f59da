"""What the drawn tests share."""

from __future__ import annotations

import pytest
from hypothesis.internal.conjecture.providers import HypothesisProvider


@pytest.fixture(autouse=True)
def draws_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the same for a number in every environment.

    Else hypothesis draws one number in twenty from the source of what happens to be imported.
    """
    monkeypatch.setattr(HypothesisProvider, "_maybe_draw_constant", lambda *_, **__: None)
