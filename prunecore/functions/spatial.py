"""Rules for functions along spatial axes: interpolation, padding, pooling."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch.nn.functional as F

from prunecore.channels.ids import along
from prunecore.channels.signal import Signal
from prunecore.functions.rule import (
    Arguments,
    FunctionRule,
    Operation,
    spatial,
)

if TYPE_CHECKING:
    from prunecore.channels.channels import Channels
    from prunecore.channels.keep import Keep


def _interpolate(channels: Channels, operation: Operation) -> Any:
    return spatial(operation.tensor.ndim - 2)(channels, operation)


def _adaptive_average(axes: int) -> FunctionRule:
    """Its shape is that of the maximum, which torch answers without its slow decompositions."""
    maximum = getattr(F, f"adaptive_max_pool{axes}d")

    def calculate(channels: Channels, operation: Operation) -> Any:
        pool = Operation(maximum, operation.args, operation.kwargs)
        return spatial(axes)(channels, pool)

    return FunctionRule(calculate)


def _pad(channels: Channels, operation: Operation) -> Signal:
    """Padding; places that it adds along the channel axis are channels of their own."""
    tensor, meta = operation.tensor, operation.run(channels)
    pad: Sequence[int] = operation.argument(1, "pad")
    constant = operation.argument(2, "mode", "constant") == "constant"
    for axis in tensor.channel_axes:
        before, after = _padding(pad, tensor.ndim, axis)
        if min(before, after) < 0 or ((before or after) and not constant):
            return Signal(meta, channels.pin_axes(tensor, [axis], operation.name).ids)
        if before or after:
            added = channels.fresh(before + after)
            ids = np.concatenate([added[:before], tensor.ids.ravel(), added[before:]])
            return Signal(meta, along(axis, tensor.ndim, ids))
    return Signal(meta, tensor.ids)


def _padding(pad: Sequence[int], rank: int, axis: int) -> tuple[int, int]:
    """What is added before and after an axis; `pad` begins at the last one."""
    place = 2 * (rank - 1 - axis)
    return (pad[place], pad[place + 1]) if place < len(pad) else (0, 0)


def _write_pad(arguments: Arguments, result: Signal, keep: Keep) -> Arguments:
    args, keywords = arguments
    pad = list(keywords["pad"] if "pad" in keywords else args[1])
    for axis in result.channel_axes:
        place, ids = 2 * (result.ndim - 1 - axis), result.ids.ravel()
        for side, added in enumerate(_padding(pad, result.ndim, axis)):
            if isinstance(added, int) and added > 0:  # else it is computed
                pad[place + side] = keep.count(ids[-added:] if side else ids[:added])
    if "pad" in keywords:
        return args, {**keywords, "pad": tuple(pad)}
    return (args[0], tuple(pad), *args[2:]), keywords


def _unpool(axes: int) -> FunctionRule:
    """The reverse of max pooling, at the places that it returned."""

    def calculate(channels: Channels, operation: Operation) -> Any:
        tensor, indices = operation.tensor, operation.argument(1, "indices")
        coupled = Signal(tensor.meta, channels.couple(tensor, indices).ids)
        rest = {name: value for name, value in operation.kwargs.items() if name != "input"}
        return spatial(axes)(
            channels, replace(operation, args=(coupled, *operation.args[1:]), kwargs=rest)
        )

    return FunctionRule(calculate)


def _pools(axes: int) -> dict[Callable[..., Any], FunctionRule]:
    kinds = ("max_pool{}d", "avg_pool{}d", "lp_pool{}d", "adaptive_max_pool{}d")
    with_indices = ("max_pool{}d_with_indices", "adaptive_max_pool{}d_with_indices")
    names = [kind.format(axes) for kind in (*kinds, *with_indices)]
    pools = {getattr(F, name): FunctionRule(spatial(axes)) for name in names if hasattr(F, name)}
    return pools | {
        getattr(F, f"adaptive_avg_pool{axes}d"): _adaptive_average(axes),
        getattr(F, f"max_unpool{axes}d"): _unpool(axes),
    }


RULES: Mapping[Callable[..., Any], FunctionRule] = {
    **_pools(1),
    **_pools(2),
    **_pools(3),
    F.interpolate: FunctionRule(_interpolate),
    F.pad: FunctionRule(_pad, _write_pad),
}
