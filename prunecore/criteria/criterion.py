"""Criteria: one importance score a channel, low goes first."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from prunecore.channels.dependencies import Dependencies

# (dependencies, the network's tensors by name, seed) -> one score a channel, shape (channels,)
Criterion = Callable[[Dependencies, Mapping[str, Tensor], int], NDArray[np.float64]]
