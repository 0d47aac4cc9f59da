"""Large tensors, block by block: as much at once as fits into a cache."""

from __future__ import annotations

from torch import Tensor

_NUMBERS = 1 << 17  # of float32, half a megabyte


def rows_at_once(tensor: Tensor) -> int:
    """How many places of a tensor's first axis are worked on at once."""
    return max(1, _NUMBERS * len(tensor) // max(1, tensor.numel()))
