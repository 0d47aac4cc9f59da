"""A network with some of its outputs alone, such as a classifier of fewer classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.utils import _pytree as pytree

from prunecore.channels.ids import FIXED
from prunecore.channels.keep import Keep
from prunecore.channels.signal import Signal
from prunecore.errors import UsageError
from prunecore.traced_model import TracedModel
from prunecore.tracing.stand_ins.patches import beside_others
from prunecore.verifying.comparison import verify
from prunecore.writing.building import build, transfer_weights
from prunecore.writing.source_file import default_name, write_network

_AXIS = 1  # of an output, that classes lie along


@beside_others()
def with_outputs(traced: TracedModel, places: Sequence[int], count: int) -> nn.Module:
    """The network with only some places of its outputs, every other channel as it is.

    Of a network that returns several tensors, as one with auxiliary heads does in training, each
    that is as wide as the classes are many is cut.

    Args:
        traced: the network.
        places: those that stay, in ascending order.
        count: how many places the outputs have, along axis 1.

    Returns:
        A network of classes that are written as those of a pruned one are, in the original's mode.

    Raises:
        UsageError: no output has so many places, or none that can go.
        VerificationError: the network does not return what the original does at these places.
    """
    dependencies = traced.dependencies
    kept = np.ones(dependencies.count, dtype=bool)
    kept[_channels(traced, places, count)] = False
    keep = Keep(traced.model, dependencies, kept)
    name = default_name(traced.model)
    source = write_network(traced.model, keep, traced.plugins, name, "Some of its outputs.")
    network = build(source, name, transfer_weights(traced.model, keep, traced.plugins))
    verify(traced.model, keep, network, traced.inputs)
    for path, parameter in network.named_parameters():
        parameter.requires_grad_(traced.model.get_parameter(path).requires_grad)
    return network.train(traced.model.training)


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
        raise UsageError(
            "The network's classes cannot be parted from each other: what comes after the "
            "classifier mixes them, as a softmax does.\nReturn the scores themselves, or keep all "
            "classes."
        )
    return found
