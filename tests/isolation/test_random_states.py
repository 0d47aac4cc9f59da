"""A job leaves the random number generators of Python, NumPy and torch as they were."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import prunecore
from prunecore.isolation.random_states import kept_random_states
from prunecore.tracing.stand_ins.patches import beside_others


def states() -> tuple[Any, ...]:
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()


def draws(x: Tensor) -> Tensor:
    random.random()
    np.random.rand()
    torch.rand(1)
    return x.relu()


def fails(x: Tensor) -> Tensor:
    draws(x)
    raise ValueError("on purpose")


class Net(nn.Module):
    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.first(x)))


@pytest.mark.usefixtures("toys_installed")
@pytest.mark.parametrize("between", [draws, fails])
def test_a_forward_that_draws_leaves_no_trace(between: Callable[[Tensor], Tensor]) -> None:
    net = Net(between)
    before = states()
    try:
        prunecore.prune(net, level=30, input_shape=(3,))
    except prunecore.UnsupportedError:
        assert between is fails
    assert states() == before


PYTHONS, NUMPYS = random.random, np.random.rand  # the process's, also in a job


@pytest.mark.parametrize("draw", [lambda: random.random(), lambda: np.random.rand()])
def test_a_job_has_generators_of_its_own(draw: Callable[[], float]) -> None:
    before = states()
    with beside_others():
        with kept_random_states():
            first = draw()
        assert draw() == first != draw()
    assert states() == before
    with beside_others():
        assert draw() == first


@pytest.mark.parametrize("draw", [PYTHONS, NUMPYS])
@pytest.mark.parametrize("others", [0, 1])
def test_what_draws_of_the_process_is_put_back(
    draw: Callable[[], float], others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are other threads, they may have drawn."""
    monkeypatch.setattr(sys, "_current_frames", lambda: dict.fromkeys(range(1 + others)))
    before = states()
    with beside_others(), kept_random_states():
        first = draw()
    assert (states() == before) == (not others)
    assert (draw() == first) == (not others)
