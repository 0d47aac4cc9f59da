"""Diagnosis of plugins: what blocks return when they run, against what was said of them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunecore.channels.records import Records, Visit
from prunecore.channels.signal import Signal
from prunecore.errors import InputShapeError, PluginError, PrunecoreError, told
from prunecore.inputs import BATCH, Arguments, drawn_like, tensors
from prunecore.isolation.random_states import OwnDraws, kept_random_states

_HOOK = "prunecore_calculate_dependencies"


@dataclass(frozen=True)
class Shapes:
    """The shapes of what a module returns, for a number of inputs.

    Attributes:
        inputs: how many inputs, the batch.
        alone: whether it returns a tensor, not a collection.
        each: the shape of each tensor.
    """

    inputs: int
    alone: bool
    each: tuple[tuple[int, ...], ...]

    def __str__(self) -> str:
        if self.alone:
            return f"a tensor of shape {self.each[0]} for {self.inputs} inputs"
        shapes = ", ".join(map(str, self.each)) or "no shape"
        return f"a collection of tensors of {shapes} for {self.inputs} inputs"

    def fits(self, other: Shapes) -> bool:
        """True if these are the same for another number of inputs, along whatever axis they lie."""
        return (self.alone, len(self.each)) == (other.alone, len(other.each)) and all(
            len(ours) == len(theirs)
            and all(
                a == b or a * other.inputs == b * self.inputs
                for a, b in zip(ours, theirs, strict=True)
            )
            for ours, theirs in zip(self.each, other.each, strict=True)
        )


def _shapes(output: Any, inputs: int) -> Shapes:
    leaves = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor | Signal)]
    alone = isinstance(output, Tensor | Signal)
    return Shapes(inputs, alone, tuple(tuple(leaf.shape) for leaf in leaves))


@dataclass(frozen=True)
class ModuleRun:
    """One call of a module of a network that runs."""

    given: Shapes
    returned: Shapes


def watch(network: nn.Module, paths: Iterable[str], inputs: int) -> Mapping[str, list[ModuleRun]]:
    """Note what modules return when a network runs.

    Args:
        network: a copy of one's own, as it gets hooks.
        paths: of the modules.
        inputs: how many inputs it will run on.

    Returns:
        The calls of each module, by path; filled as the network runs.
    """
    runs: dict[str, list[ModuleRun]] = {}

    def note(path: str, _module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        given = _shapes((args, kwargs), inputs)
        runs.setdefault(path, []).append(ModuleRun(given, _shapes(output, inputs)))

    for path in paths:
        hook = functools.partial(note, path)
        # what a module itself returns, before hooks of its own; of the network, what comes of it
        network.get_submodule(path).register_forward_hook(
            hook, prepend=bool(path), with_kwargs=True
        )
    return runs


def check_answers(
    visits: Mapping[str, Sequence[Visit]], runs: Mapping[str, Sequence[ModuleRun]], inputs: int
) -> None:
    """Check that blocks return tensors of the shapes that their plugins said.

    Args:
        visits: the calls of each module in the walk, by path.
        runs: the calls of modules that ran, by path.
        inputs: how many inputs the walk was for.

    Raises:
        PluginError: an answer differs; the first, inner blocks before those around them.
    """
    for path, calls in visits.items():
        for visit in calls:
            said = _shapes(visit.output, inputs)
            alike = [run.returned for run in _alike(visit, runs.get(path, ()), inputs)]
            if visit.owner and alike and not any(map(said.fits, alike)):
                raise visit.owner.error(
                    f"{_HOOK} for {path or 'the network'} returned {said}, where the block itself "
                    f"returns {alike[0]}"
                )


def _alike(visit: Visit, runs: Sequence[ModuleRun], inputs: int) -> list[ModuleRun]:
    """The runs that were given what the walk gave: else who gave that is at fault."""
    given = _shapes(visit.inputs, inputs)
    return [run for run in runs if given.fits(run.given)]


def find_wrong_answer(
    model: nn.Module,
    records: Records,
    inputs: Arguments,
    error: PrunecoreError,
    in_training: bool = False,
) -> None:
    """Find the plugin that led a walk to an error, if one did, by running the network itself.

    Args:
        model: the network; a copy of it is run.
        records: what the walk left behind.
        inputs: what the walk was for, on the meta device.
        error: what it ended with.
        in_training: whether it was a walk of training.

    Raises:
        PluginError: a plugin's answer is not what its block returns; or the walk ended with shapes
            that do not fit, and the block itself runs.
        InputShapeError: it is a plugin that raised something, and the network does so by itself.
    """
    given = tensors(inputs)
    count = len(given[0]) if given else BATCH  # without all of its inputs, an optional way of it
    try:
        network = copy.deepcopy(model).train(in_training)
    except (TypeError, RuntimeError):  # there is no copy of it, and the walk's error says enough
        return
    for module in network.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    open_paths = [path for path, _ in records.open]
    runs = watch(network, {*records.forwards.visits, *open_paths}, count)
    tensor = next(model.parameters(), torch.empty(0))
    failure = None
    try:
        with torch.no_grad(), OwnDraws(), kept_random_states():
            args, kwargs = drawn_like(inputs, tensor)
            network(*args, **kwargs)
    except Exception as raised:  # what the network itself raises may be what the walk met, too
        failure = raised
    check_answers(records.forwards.visits, runs, count)
    if failure is not None and isinstance(error, PluginError):
        shapes = " and ".join(str(tuple(each.shape[1:])) for each in tensors(inputs))
        raise InputShapeError(
            f"{type(model).__name__} cannot be called with inputs of shape {shapes}: it raises "
            f"{told(failure)}.\nCall it yourself first, and correct what it says; or give the "
            "input shape that it was made for (--input-shape)."
        ) from failure
    for path, visit in reversed(records.open if isinstance(error, InputShapeError) else ()):
        if _alike(visit, runs.get(path, ()), count):
            if visit.owner is None:
                return
            raise visit.owner.error(
                f"{_HOOK} for {path or 'the network'} comes to shapes that do not fit, where the "
                f"block itself runs: {str(error).splitlines()[0]}"
            ) from error
