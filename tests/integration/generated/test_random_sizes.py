"""Networks that compute with sizes are written for all sizes, whatever they are given."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, seed, settings
from hypothesis import strategies as st

import prunecore

from ..networks import filled
from ..oracle import check_style
from .random_sizes import Sizes, sized
from .test_random_networks import HEALTH


def check(drawn: Sizes, level: float, number: int, folder: Path) -> None:
    """Prune for the first of the calls, and check the written file at the others."""
    model = filled(drawn.model)
    (args, named), *others = drawn.calls
    small = prunecore.prune(
        model, args, level, example_kwargs=named, mode="random", seed=number, name="net"
    )
    file = folder / f"net{len(list(folder.glob('*.py')))}.py"
    small.save(file)
    for args, named in others:
        prunecore.verify(file, model, args, example_kwargs=named)
        with torch.no_grad():
            assert small.model(*args, **named).shape == (2, 3)
    assert prunecore.verify(file, model).inputs == 8


def check_many(count: int, number: int, folder: Path) -> None:
    """Check so many networks, always the same for a number."""

    @seed(number)
    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=HEALTH)
    @given(sized(), st.integers(5, 40), st.integers(0, 10_000))
    def each(drawn: Sizes, level: float, scores: int) -> None:
        check(drawn, level, scores, folder)

    each()
    check_style(folder)


def test_any_size_is_computed_right(tmp_path: Path) -> None:
    check_many(12, 0, tmp_path)


@pytest.mark.random
@pytest.mark.parametrize("part", range(1, 6))
def test_a_thousand_networks_of_sizes_are_cut_right(part: int, tmp_path: Path) -> None:
    check_many(200, part, tmp_path)
