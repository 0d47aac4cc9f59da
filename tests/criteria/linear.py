"""A context with images for networks of linear layers, as their plugin would tell of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from prunecore.channels.layers.linear_map import LinearMap
from prunecore.criteria.criterion import ScoringContext
from prunecore.criteria.scoring import Scoring


class Rows(LinearMap):
    """A linear layer, which answers at each token."""

    def __init__(self, layer: nn.Linear) -> None:
        self.weight, self.bias = layer.weight, layer.bias

    def places(self, output: Tensor) -> tuple[int, ...]:
        return tuple(output.shape[1:-1])

    def rows(self, input: Tensor, size: tuple[int, ...], chosen: Tensor) -> Tensor:
        tokens = input.reshape(len(input), -1, input.shape[-1])
        return tokens[torch.arange(len(tokens))[:, None], chosen].flatten(0, 1)[None]

    def answers(self, output: Tensor, chosen: Tensor) -> Tensor:
        tokens = output.reshape(len(output), -1, output.shape[-1])
        return tokens[torch.arange(len(tokens))[:, None], chosen].flatten(0, 1)

    def matrix(self) -> Tensor:
        return self.weight[None]

    def as_weight(self, matrix: Tensor) -> Tensor:
        return matrix[0]


class Halves(Rows):
    """A layer of two groups: each half of the outputs is of its own half of the inputs."""

    def rows(self, input: Tensor, size: tuple[int, ...], chosen: Tensor) -> Tensor:
        rows = super().rows(input, size, chosen)[0]
        return torch.stack(rows.chunk(2, 1))

    def matrix(self) -> Tensor:
        (top, bottom) = self.weight.chunk(2)
        half = top.shape[1] // 2
        return torch.stack([top[:, :half], bottom[:, half:]])


def reading(
    find: Callable[..., Any],
    model: nn.Module,
    images: Tensor,
    *,
    scoring: Scoring | None = None,
    seed: int = 0,
    batch: int = 64,
) -> ScoringContext:
    """What a criterion is given that reads these images."""
    found = find(model, (2, *images.shape[1:]))
    maps = {
        path: Rows(layer) for path, layer in model.named_modules() if isinstance(layer, nn.Linear)
    }
    return ScoringContext(
        found,
        found.tensors,
        seed,
        model=model.eval(),
        images=images.split(batch),
        linear_maps=maps,
        scoring=scoring or Scoring(),
    )


def made_by(context: ScoringContext, layer: str) -> Any:
    """The channels that a layer makes."""
    found = context.dependencies
    return found.axes[found.layers[layer]]
