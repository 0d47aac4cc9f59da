"""A network with some of its outputs alone, such as a classifier of fewer classes."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunecore.channels.ids import FIXED
from prunecore.channels.keep import Keep
from prunecore.channels.signal import Signal
from prunecore.errors import UsageError
from prunecore.traced_model import TracedModel, freeze_like
from prunecore.tracing.stand_ins.patches import beside_others
from prunecore.verifying.comparison import TOLERANCE, verify
from prunecore.writing.building import written_network
from prunecore.writing.source_file import checked_name

_AXIS = 1  # of an output, that classes lie along
_DOCSTRING = "A network with some of its outputs alone. Written by prunecore."


@beside_others()
def with_outputs(
    traced: TracedModel, places: Sequence[int], count: int, name: str
) -> tuple[str, nn.Module]:
    """The network with only some places of its outputs, every other channel as it is.

    Of a network that returns several tensors, as one with auxiliary heads does in training, each
    that is as wide as the classes are many is cut.

    Args:
        traced: the network.
        places: those that stay, in ascending order.
        count: how many places the outputs have, along axis 1.
        name: of the factory in its file.

    Returns:
        The text of a file, as that of a pruned network, and the network, in the original's mode.

    Raises:
        UsageError: no output has so many places, or they are mixed afterwards.
        VerificationError: the network does not return what the original does at these places.
    """
    dependencies = traced.dependencies
    kept = np.ones(dependencies.count, dtype=bool)
    kept[_channels(traced, places, count)] = False
    keep = Keep(traced.model, dependencies, kept)
    source, network, _ = written_network(
        traced.model, keep, traced.plugins, checked_name(name), _DOCSTRING
    )
    verify(traced.model, keep, network, traced.inputs)
    _check_others(traced, network, places, count)
    freeze_like(traced.model, network)
    return source, network.train(traced.model.training)


def _channels(traced: TracedModel, places: Sequence[int], count: int) -> NDArray[np.int64]:
    """The channels of the places that go."""
    gone = np.setdiff1d(np.arange(count), places)
    channels: list[NDArray[np.int64]] = []
    forwards = traced.dependencies.forwards
    for visits in (forwards.visits, forwards.training_visits):
        for output in (visit.output for visit in visits.get("", ())):
            for leaf in pytree.tree_leaves(output):
                if isinstance(leaf, Signal) and leaf.shape[_AXIS : _AXIS + 1] == (count,):
                    parted = leaf.carries_channels(_AXIS)
                    ids = leaf.ids.take(gone, _AXIS) if parted else leaf.ids
                    channels.append(traced.dependencies.channel_of[ids].ravel())
    if not channels:
        raise UsageError(f"The network returns no scores of {count} classes, along axis 1.")
    found = np.unique(np.concatenate(channels))
    if FIXED in found:
        raise _cannot_part()
    return found


def _check_others(
    traced: TracedModel, network: nn.Module, places: Sequence[int], count: int
) -> None:
    """See that the network returns what the original does, though other places are not there.

    The proof masks the original, and a norm of the masked places is another one than of all.
    """
    args, kwargs = traced.inputs.samples(traced.model)
    with torch.no_grad():
        whole, some = (
            pytree.tree_leaves(copy.deepcopy(model).eval().double()(*args, **kwargs))
            for model in (traced.original, network)
        )
    for expected, actual in zip(whole, some, strict=True):
        if isinstance(expected, Tensor):
            is_cut = expected.shape[_AXIS : _AXIS + 1] == (count,)
            asked = expected[:, list(places)] if is_cut else expected
            scale = float(asked.abs().max())
            if not torch.allclose(actual, asked, TOLERANCE, TOLERANCE * scale):
                raise _cannot_part()


def _cannot_part() -> UsageError:
    return UsageError(
        "The network's classes cannot be parted from each other: what comes after the classifier "
        "mixes them, as a softmax does.\nReturn the scores themselves, or keep all classes."
    )
