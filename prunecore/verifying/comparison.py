"""Comparison of the masked original with the written network, layer by layer."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from prunecore.channels.computed import as_followed
from prunecore.channels.ids import Ids
from prunecore.channels.keep import Keep
from prunecore.channels.names import module_paths
from prunecore.channels.records import Trace
from prunecore.channels.signal import Signal
from prunecore.channels.sizes import counted
from prunecore.errors import VerificationError
from prunecore.functions.table import SIGNS
from prunecore.inputs import BATCH, Inputs, tensors
from prunecore.isolation.state import kept_contents
from prunecore.tracing.arguments import without_constants
from prunecore.tracing.guards import GUARD
from prunecore.tracing.modules.module_hooks import hooks_in, hooks_of
from prunecore.tracing.modules.scopes import HOOKS
from prunecore.verifying.masking import as_double, called_copy, masked_original
from prunecore.verifying.running import Places, Projections, Recorder, Run, cared_for
from prunecore.walking.diagnosis import check_answers, watch
from prunecore.walking.numbers import OF_NUMBERS
from prunecore.walking.ways import without

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
    random draw, as of a dropout, is its mean; each with all inputs and, where the network is
    followed without some of them, without these.

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
    found = keep.dependencies
    if hooks_in(model) or found.forwards.opened or found.masked_forwards or found.masked_functions:
        _check_reading(model, keep, inputs)
    runs = _runs(model, keep, inputs)
    difference = max(_compare(_Pair(model, keep, written, run)) for run in runs)
    branches = any(len(ways) > 1 for ways in found.forwards.other_sizes.values())
    if branches or any(_asks_for_sizes(trace) for _, trace in found.forwards.each_way()):
        of_all = [run for run in runs if not run.absent]
        grown = itertools.chain.from_iterable(map(_at_other_sizes, of_all))
        others = [_Pair(model, keep, written, run) for run in grown]
        difference = max(difference, *map(_compare_outputs, others))
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
    for run in _runs(model, keep, inputs):
        device = tensors(run.inputs)[0].device
        called = called_copy(model, found.forwards.without_hooks, device)
        _leave_out(keep, called, run.in_training)
        expected = Recorder({}, run).run(called, called, paths)
        del called  # its memory is what the other run needs
        followed = masked_original(model, whole, device)
        _leave_out(keep, followed, run.in_training)
        actual = Recorder({}, run).run(followed, followed, paths)
        path, difference = _largest_difference(expected, actual)
        if not difference <= TOLERANCE:
            raise VerificationError(
                "The network does something else when it is called than what was followed, by "
                f"{difference:.3g}, relative, first at {cared_for(path, model, run.visits)}"
                f"{run.told}.\n{_remedy(model)}"
            )


def _remedy(model: nn.Module) -> str:
    if any(map(hooks_of, model.modules())):
        return f"Remove the hook that changes something, or leave all hooks out (--drop {HOOKS})."
    return _FAULT


def _runs(model: nn.Module, keep: Keep, inputs: Inputs) -> list[Run]:
    """The ways that a network is run: in eval mode and training, with and without some inputs."""
    forwards = keep.dependencies.forwards
    ways = {frozenset[str](): (forwards.visits, forwards.training_visits)}
    runs = []
    for absent, (visits, in_training) in {**ways, **forwards.visits_without}.items():
        samples = without(model, inputs.samples(model), absent)
        runs.append(Run(samples, visits, absent=absent))
        if in_training:
            several = inputs.samples(model, least=2)  # batch norm has to have a variance
            samples = without(model, several, absent)
            runs.append(Run(samples, in_training, True, forwards.as_in_eval, absent))
    return runs


def _asks_for_sizes(trace: Trace) -> bool:
    """True if a forward compares or rounds numbers of channels, perhaps with sizes of the input."""
    asking = (
        value
        for node, value in trace.values.items()
        if node.target in OF_NUMBERS
        or ((sign := SIGNS.get(cast(Any, node.target))) and sign.opposite)
    )
    return bool(counted(list(asking)))


_GROWTHS = (1, 2, 3, 5)  # places that an axis is longer by


def _at_other_sizes(run: Run) -> list[Run]:
    """The same run on larger inputs, which go on as they have begun, of several sizes."""
    return [
        replace(run, inputs=pytree.tree_map_only(Tensor, grown, run.inputs))
        for first in (2, 1)  # of images, and of tokens
        for places in _GROWTHS
        for count in [2 if run.in_training else 1]  # batch norm has to have a variance
        for grown in [functools.partial(_grown, count=count, first=first, places=places)]
    ]


def _grown(x: Tensor, count: int, first: int, places: int) -> Tensor:
    """The first inputs of a batch, longer by some places.

    Args:
        x: the batch.
        count: how many of them.
        first: the first axis that grows: the second, alone, or the third, and all after it. Of
            numbers that are whole it is the second, and all after it.
        places: how many.
    """
    is_float = x.is_floating_point()
    axes = range(x.ndim)[first if is_float else 1 : 2 if is_float and first == 1 else None]
    x = x[:count]
    for axis in axes:
        more = torch.arange(x.shape[axis] + places, device=x.device) % x.shape[axis]
        x = x.index_select(axis, more)
    return x


@dataclass(frozen=True)
class _Pair:
    """The two networks, and how they are run."""

    model: nn.Module
    keep: Keep
    written: nn.Module
    run: Run


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
            f"first at {cared_for(first, pair.model, pair.run.visits)}"
            f"{pair.run.told}; at most {TOLERANCE:g} is right.\n"
            f"{_FAULT}"
        )
    return difference


def _compare_outputs(pair: _Pair) -> float:
    """The largest difference between what two networks return, which may branch on sizes.

    Returns:
        It, relative; 0 where the original does not take the inputs, or the written network says
        that it does not.

    Raises:
        VerificationError: it is too large.
    """
    run, device = pair.run, tensors(pair.run.inputs)[0].device
    original = masked_original(pair.model, pair.keep, device)
    _leave_out(pair.keep, original, run.in_training)
    recorder, output = Recorder({}, run), {"": ""}
    try:
        expected = recorder.run(original, original, output)
    except VerificationError:
        return 0.0
    try:
        actual = recorder.run(pair.written, _in_double(pair, device), output)
    except VerificationError as error:
        if isinstance(error.__cause__, AssertionError) and GUARD in str(error.__cause__):
            return 0.0
        raise
    _, difference = _largest_difference(expected, actual)
    if not difference <= TOLERANCE:
        shapes = " and ".join(str(tuple(x.shape)) for x in tensors(run.inputs))
        raise VerificationError(
            f"The written network differs from the masked original by {difference:.3g}, relative, "
            f"for inputs of shape {shapes}; at most {TOLERANCE:g} is right.\n{_FAULT}"
        )
    return difference


def _in_double(pair: _Pair, device: torch.device) -> Callable[..., Any]:
    """What calls the written network in float64."""
    stored = as_double(pair.written, device)
    chosen = pair.keep.constants(pair.model)

    def in_double(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = without_constants(pair.model, chosen, args, kwargs)
        return functional_call(pair.written, stored, args, kwargs, tie_weights=False)

    return in_double


def _run_both(pair: _Pair, paths: Mapping[str, str]) -> tuple[Projections, Projections]:
    """What the masked original and the written network compute at some paths.

    Raises:
        PluginError: a block of the original returns other tensors than its plugin said.
        VerificationError: one of the two cannot be run.
    """
    run, visits, device = pair.run, pair.run.visits, tensors(pair.run.inputs)[0].device
    original = masked_original(pair.model, pair.keep, device)
    runs = watch(original, visits, len(tensors(run.inputs)[0]))
    _leave_out(pair.keep, original, run.in_training)
    try:
        expected = Recorder(_kept_places(pair, device), run).run(original, original, paths)
    finally:
        check_answers(visits, runs, BATCH)
    del original  # its memory is what the other run needs
    try:
        actual = Recorder({}, run).run(pair.written, _in_double(pair, device), paths)
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
    return {path: path for path in pair.run.visits if path in there}


def _kept_places(pair: _Pair, device: torch.device) -> dict[str, list[Places]]:
    """For each tensor that each module returns, in order, what stays of it."""

    batch = len(tensors(pair.run.inputs)[0])

    def places(signal: Signal) -> Places:
        for axis in signal.channel_axes:
            ids = signal.ids.ravel() if axis else _of_batch(signal.ids.ravel(), batch)
            return axis, torch.from_numpy(pair.keep.mask(ids).nonzero()[0]).to(device)
        return None

    return {
        path: [
            places(as_followed(leaf)[0])
            for leaf in pytree.tree_leaves([visit.output for visit in visits])
            if isinstance(leaf, Signal)
        ]
        for path, visits in pair.run.visits.items()
    }


def _of_batch(ids: Ids, batch: int) -> Ids:
    """Channels that are merged with the batch, as heads are, for a batch of another size.

    Args:
        ids: along the first axis, for the walk's batch; all channels of an input lie together, or
            all inputs of a channel.
        batch: the other size.
    """
    of_one = ids[: len(ids) // BATCH]
    if np.array_equal(np.tile(of_one, BATCH), ids):
        return np.tile(of_one, batch)
    return np.repeat(ids[::BATCH], batch)


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
