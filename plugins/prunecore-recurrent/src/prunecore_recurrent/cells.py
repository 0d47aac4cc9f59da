"""`nn.LSTMCell`, `nn.GRUCell` and `nn.RNNCell`: one step of a recurrent layer."""

from __future__ import annotations

from typing import Any

from torch import nn

from prunecore.plugin import Channels, Signal
from prunecore_recurrent.units import (
    bind_gates,
    count_uses,
    couple_states,
    features,
    hidden,
    laid_last,
)


def follow(channels: Channels, cell: nn.RNNCellBase, x: Signal, hx: Any = None) -> Any:
    """Follow one step from what it reads to the next state, or to both of an LSTM's.

    Args:
        channels: the walk.
        cell: an `nn.LSTMCell`, `nn.GRUCell` or `nn.RNNCell`.
        x: `(batch, features)`, or `(features,)`.
        hx: the state before, `(batch, units)`, or both of an LSTM's; zeros if it is `None`.
    """
    entering = features(channels, cell, x, ranks=(1, 2))
    units = hidden(channels, cell.hidden_size)
    channels.width(cell, "input_size", entering)
    channels.width(cell, "hidden_size", units)
    for weight, bias, read in (
        (cell.weight_ih, cell.bias_ih, entering),
        (cell.weight_hh, cell.bias_hh, units),
    ):
        bind_gates(channels, weight, bias, units, read)
        count_uses(channels, weight, x, units, read)
    is_lstm = isinstance(cell, nn.LSTMCell)
    made = [laid_last(x, x.shape[:-1], units) for _ in range(2 if is_lstm else 1)]
    couple_states(channels, hx, made)
    return tuple(made) if is_lstm else made[0]
