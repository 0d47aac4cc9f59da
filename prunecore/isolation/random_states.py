"""The random number generators of Python, NumPy and torch, which a job leaves as they were.

That of torch is never drawn from: a thread that runs a network draws from generators of its own.
Nor are those of Python and NumPy by the functions of their modules, which draw from a thread's own,
too, while it does a job. Other threads may draw from the process's meanwhile.
"""

from __future__ import annotations

import functools
import importlib
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils import _pytree as pytree

from prunecore.isolation.state import ThreadMode

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
    """True if two states of NumPy are one: of one kind of generator, at one place."""
    ours, theirs = first["state"], second["state"]
    return (
        {**first, "state": None} == {**second, "state": None}
        and ours.keys() == theirs.keys()
        and all(np.array_equal(ours[key], theirs[key]) for key in ours)
    )


class OwnDraws(ThreadMode):  # type: ignore[no-untyped-call]
    """While it is active, this thread draws from generators of its own, which begin with seed 0.

    Those that it would draw from, the process's and any that a forward holds, stay as they are.

    Attributes:
        has_drawn: whether a number was drawn.
    """

    def __init__(self) -> None:
        super().__init__()
        self.has_drawn = False
        self._generators: dict[torch.device, Generator] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation; one that draws, with a generator of its own."""
        kwargs = kwargs or {}
        if not _draws(func, args, kwargs):
            return func(*args, **kwargs)
        device = _device(args, kwargs)
        if device.type == "meta":  # without storage there are no numbers
            return func(*args, **kwargs)
        if device not in self._generators:
            self._generators[device] = Generator(device).manual_seed(0)
        drawing = _taking_generator(func)
        if drawing is None:
            return self._by_default(device, lambda: func(*args, **kwargs))
        self.has_drawn = True
        names = [argument.name for argument in drawing._schema.arguments]
        given = {**kwargs, "generator": self._generators[device]}
        return drawing(*args[: names.index("generator")], **given)

    def _by_default(self, device: torch.device, draw: Callable[[], Any]) -> Any:
        """What an operation draws that takes no generator: meanwhile, the process's is ours."""
        if device.type not in ("cpu", "cuda"):
            return draw()
        on_cpu = device.type == "cpu"
        process = torch.default_generator if on_cpu else torch.cuda.default_generators[device.index]
        own, before = self._generators[device], process.get_state()
        process.set_state(own.get_state())
        try:
            return draw()
        finally:
            after = process.get_state()
            process.set_state(before)
            self.has_drawn |= not torch.equal(own.get_state(), after)
            own.set_state(after)


class TorchsDraws(ThreadMode):  # type: ignore[no-untyped-call]
    """Tells whether this thread draws numbers by torch; what has no storage is drawn none.

    Attributes:
        has_drawn: whether a number was drawn.
    """

    def __init__(self) -> None:
        super().__init__()
        self.has_drawn = False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and note whether it draws."""
        kwargs = kwargs or {}
        self.has_drawn |= _draws(func, args, kwargs) and _device(args, kwargs).type != "meta"
        return func(*args, **kwargs)


class PythonsDraws:
    """Tells whether this thread draws from a generator of Python's, however it calls that.

    The state of the process's would not tell: other threads may draw from it, too. If this one
    does, the state is put back. It may be active several times, each as briefly as can be: all
    calls take longer meanwhile.

    Attributes:
        has_drawn: whether a number was drawn.
    """

    def __init__(self) -> None:
        self.has_drawn = False
        self._is_profiled = sys.getprofile() is not None  # there is but one profiler a thread
        self._before = random.getstate()
        self._process_before = PYTHONS.getstate()
        self._of_process = False

    def __enter__(self) -> PythonsDraws:
        self._entering = sys._getframe(1)
        if not self._is_profiled:
            sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_profiled:
            self.has_drawn |= random.getstate() != self._before
        else:
            sys.setprofile(None)
        if self._of_process:
            PYTHONS.setstate(self._process_before)

    def _note(self, frame: FrameType, event: str, called: Any) -> None:
        if event != "c_call":
            return
        generator = getattr(called, "__self__", None)
        if type(generator) is random.Random and called.__name__ in ("getrandbits", "random"):
            self.has_drawn |= not self._imports(frame)
            self._of_process |= generator is PYTHONS

    def _imports(self, frame: FrameType | None) -> bool:
        """True if a module is being imported, as torch does late: names of files are drawn then."""
        while frame is not None and frame is not self._entering:
            if frame.f_globals.get("__name__") == importlib._bootstrap.__name__:
                return True
            frame = frame.f_back
        return False


def _draws(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """True if an operation draws: attention without dropout, for one, does not."""
    if torch.Tag.nondeterministic_seeded not in func.tags:
        return False
    names = [argument.name for argument in func._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return "dropout_p" not in names or given.get("dropout_p", 0.0) != 0.0


def _device(args: Any, kwargs: Mapping[str, Any]) -> torch.device:
    """Where an operation draws."""
    if kwargs.get("device") is not None:
        return torch.device(kwargs["device"])
    tensors = [leaf for leaf in pytree.tree_leaves(args) if isinstance(leaf, Tensor)]
    return tensors[0].device if tensors else torch.device("cpu")


@functools.cache
def _taking_generator(func: Any) -> Any:
    """An operation that draws, in the form that takes a generator; `None` without one."""
    for name in func.overloadpacket.overloads():
        form = getattr(func.overloadpacket, name)
        arguments = [(one.name, str(one.type)) for one in form._schema.arguments]
        others = [one for one in arguments if one[0] != "generator"]
        own = [(one.name, str(one.type)) for one in func._schema.arguments]
        if others != arguments and own in (arguments, others):
            return form
    return None
