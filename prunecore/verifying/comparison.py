"""Comparison of the masked original with the written network, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from prunecore.channels.computed import as_followed
from prunecore.channels.keep import Keep
from prunecore.channels.names import module_paths
from prunecore.channels.signal import Signal
from prunecore.errors import VerificationError
from prunecore.inputs import BATCH, Arguments, Inputs, tensors
from prunecore.isolation.state import kept_contents
from prunecore.tracing.arguments import without_constants
from prunecore.tracing.modules.module_hooks import hooks_in, hooks_of
from prunecore.tracing.modules.scopes import HOOKS
from prunecore.verifying.masking import as_double, called_copy, masked_original
from prunecore.verifying.running import Places, Projections, Recorder, Run, Visits, cared_for
from prunecore.walking.diagnosis import check_answers, watch

TOLERANCE = 1e-9  # relative, in float64


# What a report says of a difference. Rounding errors depend on the number of threads that add up,
# and reports are to be the same everywhere.
_FAULT = "This is a fault of prunecore or of a plugin: please report it with the network."


_BOUNDS = (1e-12, 1e-11, 1e-10, TOLERANCE)


def verify(model: nn.Module, keep: Keep, written: nn.Module, inputs: Inputs) -> dict[str, Any]:
    """Compare the masked original with the written network on random inputs, in float64.

    The output is compared, and the output of every layer that mixes channels on the way, each
    relative to its own size: weights that let the signal die out would otherwise hide any fault
    before that. Compared is eval mode and, where that is another way, training, in which every
    random draw, as of a dropout, is its mean.

    Args:
        model: the original; a copy is masked, and shares nothing with it.
        keep: what stays of it.
        written: the network of the imported file, its weights loaded; it is left as it was.
        inputs: what the network is called with.

    Returns:
        `max_relative_difference`, rounded up to a power of ten of at least 1e-12, and the number of
        `inputs`.

    Raises:
        VerificationError: they differ by more than `TOLERANCE`, or the masked original is not
            read right.
    """
    with kept_contents(*hooks_in(model)):
        return _verified(model, keep, written, inputs)


def _verified(model: nn.Module, keep: Keep, written: nn.Module, inputs: Inputs) -> dict[str, Any]:
    samples, found = inputs.samples(model), keep.dependencies
    if hooks_in(model) or found.forwards.opened or found.masked_forwards or found.masked_functions:
        _check_reading(model, keep, inputs)
    difference = _compare(_Pair(model, keep, written, samples, in_training=False))
    if found.forwards.training_visits:
        several = inputs.samples(model, least=2)  # batch norm has to have a variance
        in_training = _compare(_Pair(model, keep, written, several, in_training=True))
        difference = max(difference, in_training)
    bound = next(bound for bound in _BOUNDS if difference <= bound)
    return {"max_relative_difference": bound, "inputs": inputs.batch()}


def _check_reading(model: nn.Module, keep: Keep, inputs: Inputs) -> None:
    """Check that the original, with nothing masked, does what calling the network does.

    The masked original does without hooks that change nothing. The forwards that it runs in the
    place of others are those of plugins and of the walk, as what is written is: what is wrong with
    them would be wrong on both sides of the comparison.

    Raises:
        VerificationError: it is something else.
    """
    found, paths = keep.dependencies, _compared_paths(model, model)
    whole = Keep(model, found, np.ones(found.count, dtype=bool))
    for in_training in (False, True) if found.forwards.training_visits else (False,):
        visits = found.forwards.training_visits if in_training else found.forwards.visits
        samples = inputs.samples(model, least=2 if in_training else 1)
        device = tensors(samples)[0].device
        run = Run(samples, visits, in_training, found.forwards.as_in_eval)
        called = called_copy(model, found.forwards.without_hooks, device)
        _leave_out(keep, called, in_training)
        expected = Recorder({}, run).run(called, called, paths)
        del called  # its memory is what the other run needs
        followed = masked_original(model, whole, device)
        _leave_out(keep, followed, in_training)
        actual = Recorder({}, run).run(followed, followed, paths)
        path, difference = _largest_difference(expected, actual)
        if not difference <= TOLERANCE:
            raise VerificationError(
                "The network does something else when it is called than what was followed, by "
                f"{difference:.3g}, relative, first at {cared_for(path, model, run.visits)}"
                f"{', in training' if in_training else ''}.\n{_remedy(model)}"
            )


def _remedy(model: nn.Module) -> str:
    if any(map(hooks_of, model.modules())):
        return f"Remove the hook that changes something, or leave all hooks out (--drop {HOOKS})."
    return _FAULT


@dataclass(frozen=True)
class _Pair:
    """The two networks, and what they are run on in training or in eval mode."""

    model: nn.Module
    keep: Keep
    written: nn.Module
    inputs: Arguments
    in_training: bool

    @property
    def visits(self) -> Visits:
        """The calls of each module in the walk of the mode, by path."""
        found = self.keep.dependencies
        return found.forwards.training_visits if self.in_training else found.forwards.visits


def _compare(pair: _Pair) -> float:
    """The largest difference between two networks, relative to the size of what differs.

    Raises:
        VerificationError: it is too large.
    """
    expected, actual = _run_both(pair, _compared_paths(pair.model, pair.written))
    if not all(math.isfinite(trace.size) for trace in expected.values()):
        raise VerificationError(
            "The original computes values that are not finite, so that nothing can be compared.\n"
            "Give it trained weights (--weights), or pass --no-verify."
        )
    path, difference = _largest_difference(expected, actual)
    if not difference <= TOLERANCE:
        first = _first_difference(*_run_both(pair, _visited_paths(pair))) or path
        raise VerificationError(
            f"The written network differs from the masked original by {difference:.3g}, relative, "
            f"first at {cared_for(first, pair.model, pair.visits)}"
            f"{', in training' if pair.in_training else ''}; at most {TOLERANCE:g} is right.\n"
            f"{_FAULT}"
        )
    return difference


def _run_both(pair: _Pair, paths: Mapping[str, str]) -> tuple[Projections, Projections]:
    """What the masked original and the written network compute at some paths.

    Raises:
        PluginError: a block of the original returns other tensors than its plugin said.
        VerificationError: one of the two cannot be run.
    """
    visits, device = pair.visits, tensors(pair.inputs)[0].device
    original = masked_original(pair.model, pair.keep, device)
    runs = watch(original, visits, len(tensors(pair.inputs)[0]))
    run = Run(pair.inputs, visits, pair.in_training, pair.keep.dependencies.forwards.as_in_eval)
    _leave_out(pair.keep, original, pair.in_training)
    try:
        expected = Recorder(_kept_places(pair, device), run).run(original, original, paths)
    finally:
        check_answers(visits, runs, BATCH)
    del original  # its memory is what the other run needs
    in_float64 = as_double(pair.written, device)
    chosen = pair.keep.constants(pair.model)

    def in_double(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = without_constants(pair.model, chosen, args, kwargs)
        return functional_call(pair.written, in_float64, args, kwargs, tie_weights=False)

    try:
        actual = Recorder({}, run).run(pair.written, in_double, paths)
    except VerificationError as error:
        what = str(error).splitlines()[0].rstrip(".")
        raise VerificationError(
            f"As it is written, {what}, where the original can.\n{_FAULT}"
        ) from error
    return expected, actual


def _leave_out(keep: Keep, network: nn.Module, in_training: bool) -> None:
    """Let a copy of the original train without what training is to do without."""
    for path in keep.dependencies.forwards.absent if in_training else ():
        holder, _, key = path.rpartition(".")
        setattr(network.get_submodule(holder), key, None)


def _compared_paths(model: nn.Module, written: nn.Module) -> dict[str, str]:
    """The network and its layers that mix channels, by path, and the first path of each."""
    first = module_paths(model)
    there = {path for path, _ in written.named_modules(remove_duplicate=False)}
    return {
        path: first[id(module)]
        for path, module in model.named_modules(remove_duplicate=False)
        if path in there and (not path or any(p.ndim > 1 for p in module.parameters(recurse=False)))
    }


def _visited_paths(pair: _Pair) -> dict[str, str]:
    """Every module that the walk met and the written network has, by path."""
    there = {path for path, _ in pair.written.named_modules(remove_duplicate=False)}
    return {path: path for path in pair.visits if path in there}


def _kept_places(pair: _Pair, device: torch.device) -> dict[str, list[Places]]:
    """For each tensor that each module returns, in order, what stays of it."""

    def places(signal: Signal) -> Places:
        for axis in signal.channel_axes:
            return axis, torch.from_numpy(pair.keep.mask(signal.ids.ravel()).nonzero()[0]).to(
                device
            )
        return None

    return {
        path: [
            places(as_followed(leaf)[0])
            for leaf in pytree.tree_leaves([visit.output for visit in visits])
            if isinstance(leaf, Signal)
        ]
        for path, visits in pair.visits.items()
    }


def _largest_difference(expected: Projections, actual: Projections) -> tuple[str, float]:
    """The first module, in order of execution, that is off, and the largest difference.

    A layer whose weights the original uses without calling it is compared within what holds it.
    """
    called = {path for path, _ in expected}
    if expected.keys() != {key for key in actual if key[0] in called}:
        return "", math.inf
    largest = 0.0
    for key, ours in expected.items():
        theirs = actual[key]
        difference = abs(ours.value - theirs.value) / (ours.size or 1.0)
        if ours.shape != theirs.shape or not difference <= TOLERANCE:
            return key[0], math.inf if ours.shape != theirs.shape else difference
        largest = max(largest, difference)
    return "", largest


def _first_difference(expected: Projections, actual: Projections) -> str:
    """The first module that is off, of those that both networks call."""
    keys = [key for key, trace in expected.items() if key in actual and math.isfinite(trace.size)]
    path, _ = _largest_difference(
        {key: expected[key] for key in keys}, {key: actual[key] for key in keys}
    )
    return path
