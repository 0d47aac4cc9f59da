"""Coupled groups: the channels of layers that share some."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prunecore.channels.dependencies import Dependencies, components


def coupled_groups(dependencies: Dependencies) -> NDArray[np.int64]:
    """The group of each channel, shape `(count,)`: layers that share channels are of one group.

    Groups are numbered from 0, in the order of their first channels. A channel that no layer makes
    is a group of its own.
    """
    made = [dependencies.axes[index] for index in dict.fromkeys(dependencies.layers.values())]
    moving = [channels[channels >= 0] for channels in made]
    pairs = [(np.full(len(some), some[0]), some) for some in moving if len(some)]
    root = components(dependencies.count + 1, pairs)[:-1]
    _, groups = np.unique(root, return_inverse=True)
    return groups.astype(np.int64)
