"""What the modules of this plugin share: the form of a rule, and units of coupled channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from prunecore.plugin import Channels, Signal

Ids = NDArray[np.int64]

# What a layer does to channels: (channels, layer, *inputs) -> a Signal for each output.
Rule = Callable[..., Any]


def classes(names: str) -> list[type[nn.Module]]:
    """The classes of `torch.nn` of these names; older versions of torch lack some."""
    return [getattr(nn, name) for name in names.split() if hasattr(nn, name)]


def torch_class(layer: nn.Module) -> type[nn.Module]:
    """The class of `torch.nn` that a layer is of, or that its class only constructs otherwise."""
    classes_of = type(layer).__mro__
    own: type[nn.Module] = next(cls for cls in classes_of if vars(nn).get(cls.__name__) is cls)
    return own


def declare(channels: Channels, weight: Tensor | Signal | None, **widths: Ids | None) -> None:
    """Declare what the constructor of the layer that holds a weight is told, if one does.

    A forward may call a function with the weights of a layer that it holds. An attribute that is
    another number means something else there.
    """
    if not isinstance(weight, Tensor):
        return
    holder = channels.holder(weight)
    for name, ids in widths.items():
        value = getattr(holder, name, None)
        is_other = isinstance(value, int) and ids is not None and value != ids.size
        if value is not None and not is_other:
            channels.width(holder, name, ids)


def expect_size(channels: Channels, x: Signal, axis: int, size: int) -> None:
    """Stop where a layer meets a tensor of another width than it was made for.

    Raises:
        InputShapeError: the width is another.
    """

    def check(tensor: Tensor) -> None:
        if tensor.shape[axis] != size:
            raise ValueError(f"axis {axis} is {tensor.shape[axis]} wide where {size} is expected")

    if not -x.ndim <= axis < x.ndim or x.shape[axis] != size:
        channels.run(check, x)


def hold_single(channels: Channels, ids: Ids) -> Ids:
    """Keep a layer's only channel: an axis without places is no network."""
    if len(ids) == 1:
        channels.pin(ids, "it makes a single channel")
    return ids


def whole_groups(width: int, groups: int) -> bool:
    """True if the unit to remove is a group, rather than one position of every group.

    Kept groups must be equally large. Either whole groups go, or the same positions of all of
    them; the choice here is the one that leaves more units to choose from.
    """
    return groups > width // groups


def couple_groups(channels: Channels, groups: int, *ids: Ids) -> Ids:
    """Couple all channels of each group; one id a group, shape `(groups,)`."""
    members = np.concatenate([part.reshape(groups, -1) for part in ids], axis=1)
    channels.join(np.broadcast_to(members[:, :1], members.shape), members)
    return np.ascontiguousarray(members[:, 0])


def couple_positions(channels: Channels, groups: int, ids: Ids) -> Ids:
    """Couple equal positions of all groups; the first group's ids, shape `(width / groups,)`."""
    by_group = ids.reshape(groups, -1)
    channels.join(np.broadcast_to(by_group[:1], by_group.shape), by_group)
    return np.ascontiguousarray(by_group[0])
