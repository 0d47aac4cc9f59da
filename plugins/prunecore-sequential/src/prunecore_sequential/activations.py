"""The activations and dropout: place by place, but for those that see channels together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import nn

from prunecore.plugin import Channels, Signal
from prunecore_sequential.rules import Rule, classes, expect_size


def elementwise(_channels: Channels, _layer: nn.Module, x: Any) -> Any:
    """Place by place: nothing changes hands."""
    return x


def prelu(channels: Channels, layer: nn.PReLU, x: Signal) -> Signal:
    """Place by place; a slope for each channel, or one for all."""
    if layer.num_parameters > 1:
        expect_size(channels, x, 1, layer.num_parameters)
        ids = channels.axis(x, 1)
        channels.bind(layer.weight, 0, ids)
        channels.width(layer, "num_parameters", ids)
    return x


def glu(channels: Channels, layer: nn.GLU, x: Signal) -> Any:
    """As the function does."""
    return channels.apply(F.glu, x, layer.dim)


def softmax(channels: Channels, layer: nn.Softmax, x: Signal) -> Signal:
    """Softmax, Softmin and LogSoftmax: what lies along their axis is left whole."""
    dim = layer.dim
    if dim is None:  # torch's own, deprecated choice
        dim = 0 if x.ndim in (0, 1, 3) else 1
    return channels.pin_axes(x, [dim % x.ndim], type(layer).__name__)


def softmax2d(channels: Channels, _layer: nn.Softmax2d, x: Signal) -> Signal:
    """Softmax over the channels at each place of a map."""
    return channels.pin_axes(x, [x.ndim - 3], "Softmax2d")


_ELEMENTWISE = """
    CELU ELU GELU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid Mish RReLU ReLU
    ReLU6 SELU SiLU Sigmoid Softplus Softshrink Softsign Tanh Tanhshrink Threshold
    Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout Identity
"""

RULES: Mapping[type[nn.Module], Rule] = {
    **dict.fromkeys(classes(_ELEMENTWISE), elementwise),
    nn.PReLU: prelu,
    nn.GLU: glu,
    **dict.fromkeys((nn.Softmax, nn.Softmin, nn.LogSoftmax), softmax),
    nn.Softmax2d: softmax2d,
}
