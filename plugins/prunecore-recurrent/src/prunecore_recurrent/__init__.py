"""Recurrent layers and their cells, for prunecore."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from prunecore.plugin import BlockSource, Channels, Writer, hookimpl
from prunecore_recurrent import cells, constructors, layers

# follows a layer or a cell: (channels, layer, *inputs) -> a Signal for each tensor
_FOLLOW: Mapping[type[nn.Module], Callable[..., Any]] = {
    **dict.fromkeys((nn.LSTM, nn.GRU, nn.RNN), layers.follow),
    **dict.fromkeys((nn.LSTMCell, nn.GRUCell, nn.RNNCell), cells.follow),
}


@hookimpl
def prunecore_block_types() -> Sequence[type[nn.Module]]:
    """`nn.LSTM`, `nn.GRU` and `nn.RNN`, and their cells."""
    return list(_FOLLOW)


@hookimpl
def prunecore_calculate_dependencies(
    block: nn.Module, inputs: tuple[Any, ...], channels: Channels
) -> Any:
    """A hidden unit goes with all of its gates, in all layers and directions of a module."""
    return _FOLLOW[constructors.torch_class(block)](channels, block, *inputs)


@hookimpl
def prunecore_write_block(block: nn.Module, name: str, writer: Writer) -> BlockSource:
    """The constructor call, in the kept widths."""
    return constructors.write(block, writer)
