"""Hidden units, which recurrent layers and their cells have: what is bound to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from prunecore.plugin import Channels, Signal, along, bind_units, count_product

Ids = NDArray[np.int64]


def hidden(channels: Channels, width: int) -> Ids:
    """New channels, one a unit; a layer's only one stays, as an axis without places is no network.

    Returns:
        Their ids, shape `(width,)`.
    """
    units = channels.fresh(width)
    if width == 1:
        channels.pin(units, "it is the only hidden unit")
    return units


def features(channels: Channels, layer: nn.Module, x: Signal, ranks: Sequence[int]) -> Ids | None:
    """The channels along the last axis of what a layer reads, step by step; `None` without any.

    What lies along others, the steps or the batch, is left whole.

    Args:
        channels: the walk.
        layer: a recurrent layer or a cell.
        x: what it reads, `(..., features)`.
        ranks: how many axes that may have.

    Raises:
        InputShapeError: it is of another shape.
    """
    width = layer.input_size

    def check(tensor: Tensor) -> None:
        if tensor.ndim not in ranks or tensor.shape[-1] != width:
            axes = " or ".join(map(str, ranks))
            raise ValueError(f"{axes} axes are expected, the last of {width} features")

    channels.run(check, x)
    if any(map(x.carries_channels, range(x.ndim - 1))):
        x = channels.pin_axes(x, range(x.ndim - 1), type(layer).__name__)
    return channels.read(x, x.ndim - 1)


def bind_gates(
    channels: Channels, weight: Tensor, bias: Tensor | None, units: Ids, read: Ids | None
) -> None:
    """Bind a weight that makes gates: as many blocks of rows as there are gates, a row a unit.

    Args:
        channels: the walk.
        weight: shape `(gates * units, columns)`.
        bias: shape `(gates * units,)`; `None` without.
        units: shape `(units,)`.
        read: the channels of its columns, shape `(columns,)`; `None` where all of them stay.
    """
    gates = np.tile(units, len(weight) // len(units))
    bind_units(channels, weight, 0, gates, units)
    channels.bind(weight, 1, read)
    channels.bind(bias, 0, gates)


def count_uses(channels: Channels, weight: Tensor, x: Signal, rows: Ids, read: Ids | None) -> None:
    """Count the multiply-accumulates of a weight that is used at each step of each sequence.

    Args:
        channels: the walk.
        weight: shape `(rows, columns)`.
        x: what the layer reads, shape `(..., columns)`.
        rows: the channels of its rows, shape `(rows,)`.
        read: those of its columns, shape `(columns,)`; `None` where all of them stay.
    """
    places = x.meta.numel() // x.shape[-1]
    bound = [rows] if read is None else [rows, read]
    count_product(channels, places * weight.numel(), *bound)


def couple_states(channels: Channels, given: Any, made: Sequence[Signal]) -> None:
    """Couple the states that a layer is given with those that it returns, which are like them.

    Args:
        channels: the walk.
        given: one state, or a tuple or list of both of an LSTM; `None` for zeros.
        made: the states that it returns.

    Raises:
        InputShapeError: a state is of another shape than the one that the layer returns.
    """
    states = () if given is None else given if isinstance(given, tuple | list) else (given,)
    for state, one in zip(states, made, strict=True) if states else ():
        channels.run(_check_shape, state, one)
        channels.couple(*channels.meeting([one, state]))


def _check_shape(given: Tensor, made: Tensor) -> None:
    if given.shape != made.shape:
        raise ValueError(f"a state of shape {tuple(made.shape)} is expected")


def laid_last(x: Signal, before: Sequence[int], ids: Ids) -> Signal:
    """A tensor like `x` of shape `(*before, len(ids))`, whose channels lie along its last axis."""
    rank = len(before) + 1
    return Signal(x.meta.new_empty((*before, len(ids))), along(rank - 1, rank, ids))
