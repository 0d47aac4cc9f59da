"""Units that take several filters each, as those of a recurrent layer take its gates."""

from __future__ import annotations

from torch import Tensor

from prunecore.channels.channels import Channels
from prunecore.channels.ids import Ids


def bind_units(channels: Channels, weight: Tensor, axis: int, filters: Ids, units: Ids) -> None:
    """Bind the filters of a weight several of which make one channel: a layer's width is its units.

    Other weights of the layer whose filters are of the same units are no layers of their own.

    Args:
        channels: the walk, in the module that holds the weight.
        weight: a parameter of the network.
        axis: its axis of filters.
        filters: the channel that each filter is of, shape `(weight.shape[axis],)`.
        units: each of these channels once, shape `(units,)`.
    """
    channels.bind(weight, axis, filters, filters=True)
    channels.records.units.setdefault((id(weight), axis), units)
