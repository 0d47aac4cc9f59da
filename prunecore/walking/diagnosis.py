"""Diagnosis of plugins: what blocks return when they run, against what was said of them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunecore.channels.records import TRAINING, Records, Visit
from prunecore.channels.signal import Signal
from prunecore.errors import InputShapeError, PluginError, PrunecoreError, UnsupportedError, told
from prunecore.inputs import BATCH, Arguments, Inputs, drawn_like, tensors
from prunecore.isolation.random_states import OwnDraws, kept_random_states
from prunecore.tracing.modules.forwards import forward_of
from prunecore.tracing.source_lines import file_of, raising_line

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
    network = _own_copy(model, in_training)
    if network is None:  # the walk's error says enough
        return
    open_paths = [path for path, _ in records.open]
    runs = watch(network, {*records.forwards.visits, *open_paths}, count)
    tensor = next(model.parameters(), torch.empty(0))
    failure = _raised_by(network, functools.partial(drawn_like, inputs, tensor))
    check_answers(records.forwards.visits, runs, count)
    if failure is not None and isinstance(error, PluginError):
        shapes = " and ".join(str(tuple(each.shape[1:])) for each in given)
        what = f"inputs of shape {shapes}" if given else "these inputs, none of which is a tensor"
        raise InputShapeError(
            f"{type(model).__name__} cannot be called with {what}: it raises "
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


def check_runs(model: nn.Module, inputs: Inputs, error: UnsupportedError) -> None:
    """See that a network which cannot be traced runs, and else say what it raises by itself.

    Nothing is run where a rule or a plugin has refused it.

    Args:
        model: the network; a copy of it is run.
        inputs: what it is called with.
        error: what tracing it ended with.

    Raises:
        UnsupportedError: it does not run.
    """
    traced: BaseException | None = error
    while isinstance(traced, PrunecoreError):
        traced = traced.__cause__
    if traced is None:
        return
    has_values = not any(tensor.is_meta for tensor in model.parameters())
    given = functools.partial(inputs.example, model)
    if inputs.examples is None:  # as many as the walk has: the forward may be tied to that
        like = next(model.parameters(), torch.empty(0))
        given = functools.partial(drawn_like, inputs.on_meta(BATCH), like)
    for in_training in (False, True):
        network = _own_copy(model, in_training)
        raised = network and _raised_by(network, given)
        if not raised:
            continue
        is_same = told(raised) == told(traced)
        # training may need more inputs than one, and a network without values cannot decide
        if not (is_same or (has_values and not in_training)):
            continue
        forward = forward_of(model.get_submodule(error.path) if is_same else model)
        shapes = " and ".join(map(str, inputs.shapes))
        instead = "give other inputs (--input-shape or --input)"
        if in_training:
            instead = f"leave out what only training does (--drop {TRAINING})"
        raise UnsupportedError(
            error.path if is_same else "",
            error.class_name if is_same else type(model).__name__,
            f"{'in training ' if in_training else ''}it raises {told(raised).rstrip('.')}",
            f"Call the network yourself first, with a batch of inputs of shape {shapes}, and "
            f"correct what it says; or {instead}.",
            raising_line(raised, file_of(forward)),
        ) from raised


def _own_copy(model: nn.Module, in_training: bool) -> nn.Module | None:
    """A copy of a network without its hooks; `None` where there can be none."""
    try:
        network = copy.deepcopy(model).train(in_training)
    except (TypeError, RuntimeError):
        return None
    for module in network.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return network


def _raised_by(network: nn.Module, given: Callable[[], Arguments]) -> Exception | None:
    """What a network raises, if anything.

    Args:
        network: a copy of one's own.
        given: makes what it is called with.
    """
    try:
        with torch.no_grad(), OwnDraws(), kept_random_states():
            args, kwargs = given()
            network(*args, **kwargs)
    except Exception as raised:  # whatever the user's own forward raises
        return raised
    return None
