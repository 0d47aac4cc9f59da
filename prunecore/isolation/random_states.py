"""The random number generators of Python and NumPy, which a job leaves as they were.

That of torch is never drawn from: a thread that runs a network draws from generators of its own.
Nor are those of Python and NumPy by the functions of their modules, which draw from a thread's own,
too, while it does a job.
"""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

PYTHONS: random.Random = random._inst  # the process's, as NumPy's


NUMPYS: np.random.RandomState = np.random.mtrand._rand


class OwnGenerators:
    """Generators of a thread's own in the place of Python's and NumPy's; they begin with seed 0."""

    def __init__(self) -> None:
        self.python = random.Random(0)
        self.numpy = np.random.RandomState(0)


def drawing_functions(
    own: Callable[[], OwnGenerators | None],
) -> Mapping[tuple[Any, str], Callable[..., Any]]:
    """The functions of Python's and NumPy's modules that draw, by module and name.

    Args:
        own: the generators of the thread that calls them; `None` for the process's.
    """

    def by_thread(kind: str, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def draw(*args: Any, **kwargs: Any) -> Any:
            generators = own()
            called = function if generators is None else getattr(getattr(generators, kind), name)
            return called(*args, **kwargs)

        return draw

    return {
        (module, name): by_thread(kind, name, function)
        for kind, module, process in (("python", random, PYTHONS), ("numpy", np.random, NUMPYS))
        for name, function in vars(module).items()
        if getattr(function, "__self__", None) is process or (module, name) == (np.random, "seed")
    }


@contextmanager
def kept_random_states() -> Iterator[None]:
    """Put the states back that what runs meanwhile has changed.

    Those of the process, too, which only what knows them by other names than the functions of their
    modules has changed in a job. But not where there are other threads, which may draw as well.
    """
    own = random.getstate(), np.random.get_state(legacy=False)
    python, numpy = PYTHONS.getstate(), NUMPYS.get_state(legacy=False)
    try:
        yield
    finally:
        random.setstate(own[0])
        np.random.set_state(own[1])
        if len(sys._current_frames()) == 1:
            if PYTHONS.getstate() != python:
                PYTHONS.setstate(python)
            if not _alike(NUMPYS.get_state(legacy=False), numpy):
                NUMPYS.set_state(numpy)


def _alike(first: Any, second: Any) -> bool:
    """Whether two states of NumPy are one: of one kind of generator, at one place."""
    ours, theirs = first["state"], second["state"]
    return (
        {**first, "state": None} == {**second, "state": None}
        and ours.keys() == theirs.keys()
        and all(np.array_equal(ours[key], theirs[key]) for key in ours)
    )
