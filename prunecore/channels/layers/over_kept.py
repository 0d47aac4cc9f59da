"""What stands in the masked original for a function that zeros would disturb."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree


def over_kept(
    function: Callable[..., Any],
    axis: int,
    kept: Tensor,
    input: Tensor,  # as torch calls it
    *args: Any,
    **kwargs: Any,
) -> Any:
    """What a function returns for the kept places of an axis, put back among zeros.

    Args:
        function: called with the kept places of `input` and the other arguments; what it returns
            has as many places along the axis.
        axis: of `input` and of what is returned; from the last one if negative.
        kept: the places that stay, shape `(kept places,)`.
        input: a tensor with all places.
        args: the other arguments of the call.
        kwargs: likewise, by name.
    """
    size = input.shape[axis]

    def among_zeros(part: Tensor) -> Tensor:
        shape = list(part.shape)
        shape[axis] = size
        return part.new_zeros(shape).index_copy(axis, kept, part)

    parts = function(input.index_select(axis, kept), *args, **kwargs)
    return pytree.tree_map_only(Tensor, among_zeros, parts)
