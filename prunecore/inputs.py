"""The inputs of a network: their shapes, and random ones to run it on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

# The shape of one input without the batch; of a network with several inputs, the shapes of each.
InputShape: TypeAlias = Sequence[int] | Sequence[Sequence[int]]


_PLACES = 3 * 224 * 224  # input values to verify with: small inputs come several at a time


_MOST_INPUTS = 8


def shapes_of(input_shape: InputShape) -> tuple[tuple[int, ...], ...]:
    """The shape of each input of a network."""
    rows = [row for row in input_shape if not isinstance(row, int)]
    sizes = tuple(size for size in input_shape if isinstance(size, int))
    return tuple(map(tuple, rows)) if rows else (sizes,)


def on_meta(input_shape: InputShape, batch: int) -> list[Tensor]:
    """Inputs of these shapes that have no storage."""
    return [torch.empty((batch, *shape), device="meta") for shape in shapes_of(input_shape)]


def sample_inputs(model: nn.Module, input_shape: InputShape, least: int = 1) -> list[Tensor]:
    """Random inputs of a network, the same each time, in float64 and where the network is.

    Args:
        model: the network.
        input_shape: of one input, without the batch; or of each.
        least: how large the batch is at least.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    device = torch.device("cpu") if device.type == "mps" else device  # has no float64
    shapes = shapes_of(input_shape)
    places = sum(int(torch.Size(shape).numel()) for shape in shapes)
    count = max(least, min(_MOST_INPUTS, _PLACES // places))
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(count, *shape, dtype=torch.float64, generator=generator).to(device)
        for shape in shapes
    ]
