"""The rules for functions that see the places along an axis together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from prunecore.functions import FunctionRule, Operation, elementwise, everywhere
from prunecore.signal import Signal

if TYPE_CHECKING:
    from prunecore.channels import Channels


def _reduce(channels: Channels, operation: Operation) -> Any:
    """A reduction: channels that it mixes are left whole."""
    tensor = operation.tensor
    dims = operation.argument(1, "dim")
    if isinstance(dims, Signal):  # torch.max and torch.min of two tensors
        return elementwise(channels, operation)
    result = operation.run(channels)
    dims = range(tensor.ndim) if dims is None else [dims] if isinstance(dims, int) else dims
    axes = {dim % tensor.ndim for dim in dims}
    ids = channels.pin_axes(tensor, axes, operation.name).ids
    metas = [result] if isinstance(result, Tensor) else list(result)
    if metas[0].ndim != tensor.ndim:
        ids = ids.reshape([size for axis, size in enumerate(ids.shape) if axis not in axes])
    signals = [Signal(meta, ids) for meta in metas]
    return signals[0] if isinstance(result, Tensor) else type(result)(signals)


def _mixes_along_dim(channels: Channels, operation: Operation) -> Signal:
    """Softmax and its like: what lies along `dim` sees each other, and is left whole."""
    tensor = operation.tensor
    dim = operation.argument(1, "dim")
    axes = range(tensor.ndim) if dim is None else [dim % tensor.ndim]
    return channels.pin_axes(tensor, axes, operation.name)


RULES: Mapping[Callable[..., Any], FunctionRule] = {
    **everywhere(
        "mean sum amax amin std var prod logsumexp all any max min", FunctionRule(_reduce)
    ),
    **everywhere("softmax log_softmax softmin cumsum cumprod", FunctionRule(_mixes_along_dim)),
}
