"""The random number generators of Python and NumPy, which a job leaves as they were.

That of torch is never drawn from: a thread that runs a network draws from generators of its own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


@contextmanager
def kept_random_states() -> Iterator[None]:
    """Put the states back that what runs meanwhile has changed."""
    before, numpy_before = random.getstate(), np.random.get_state(legacy=False)
    try:
        yield
    finally:
        if random.getstate() != before:
            random.setstate(before)
        if not _alike(np.random.get_state(legacy=False), numpy_before):
            np.random.set_state(numpy_before)


def _alike(first: Any, second: Any) -> bool:
    """Whether two states of NumPy are one: of one kind of generator, at one place."""
    ours, theirs = first["state"], second["state"]
    return (
        {**first, "state": None} == {**second, "state": None}
        and ours.keys() == theirs.keys()
        and all(np.array_equal(ours[key], theirs[key]) for key in ours)
    )
