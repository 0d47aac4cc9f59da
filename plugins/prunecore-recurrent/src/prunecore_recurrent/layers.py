"""`nn.LSTM`, `nn.GRU` and `nn.RNN`: how channels run through.

torch gives all layers and directions of such a module one hidden size, so that a hidden unit goes
with those of the same number in all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import nn

from prunecore.plugin import Channels, Signal, bind_units
from prunecore_recurrent.units import (
    Ids,
    bind_gates,
    count_uses,
    couple_states,
    features,
    hidden,
    laid_last,
)


def follow(channels: Channels, layer: nn.RNNBase, x: Signal, hx: Any = None) -> tuple[Signal, Any]:
    """Follow a sequence from what each step reads to the outputs and the last states.

    Args:
        channels: the walk.
        layer: an `nn.LSTM`, `nn.GRU` or `nn.RNN`.
        x: `(batch, steps, features)` with `batch_first`, else `(steps, batch, features)`; without a
            batch `(steps, features)`.
        hx: the states before the first step, `(layers * directions, batch, width)`, two of an LSTM.
    """
    entering = features(channels, layer, x, ranks=(2, 3))
    channels.width(layer, "input_size", entering)
    units = hidden(channels, layer.hidden_size)
    channels.width(layer, "hidden_size", units)
    returned = units
    if layer.proj_size:
        # torch wants fewer of them than units: each goes with the unit of its number
        returned = units[: layer.proj_size]
        channels.hold_one(units[layer.proj_size :])
        channels.width(layer, "proj_size", returned)
    sequence = np.tile(returned, 2 if layer.bidirectional else 1)
    for number, suffix in _parts(layer):
        read = sequence if number else entering
        _bind(channels, layer, suffix, x, (read, units, returned))
    directions = len(sequence) // len(returned)
    batch = () if x.ndim == 2 else (x.shape[0 if layer.batch_first else 1],)
    before = (layer.num_layers * directions, *batch)
    is_lstm = isinstance(layer, nn.LSTM)
    made = [laid_last(x, before, ids) for ids in ((returned, units) if is_lstm else (returned,))]
    couple_states(channels, hx, made)
    return laid_last(x, x.shape[:-1], sequence), tuple(made) if is_lstm else made[0]


def _parts(layer: nn.RNNBase) -> Iterator[tuple[int, str]]:
    """The number of each layer, and how the names of its parameters end, for each direction."""
    for number in range(layer.num_layers):
        for direction in ("", "_reverse") if layer.bidirectional else ("",):
            yield number, f"l{number}{direction}"


def _bind(
    channels: Channels,
    layer: nn.RNNBase,
    suffix: str,
    x: Signal,
    ids: tuple[Ids | None, Ids, Ids],
) -> None:
    """Bind the parameters of one layer and direction.

    Args:
        channels: the walk.
        layer: the module.
        suffix: how their names end.
        x: what the module reads.
        ids: of what this layer reads, of its units, and of what it returns.
    """
    read, units, returned = ids
    for name, columns in (("ih", read), ("hh", returned)):
        weight = getattr(layer, f"weight_{name}_{suffix}")
        bias = getattr(layer, f"bias_{name}_{suffix}") if layer.bias else None
        bind_gates(channels, weight, bias, units, columns)
        count_uses(channels, weight, x, np.tile(units, len(weight) // len(units)), columns)
    if layer.proj_size:
        weight = getattr(layer, f"weight_hr_{suffix}")
        bind_units(channels, weight, 0, returned, returned)
        channels.bind(weight, 1, units)
        count_uses(channels, weight, x, returned, units)
