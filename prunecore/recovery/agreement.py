"""How far a smaller network answers as its original does, on images without labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class Agreement:
    """What two networks agree in.

    Attributes:
        top1: the share of the original's predictions, the largest along axis 1 of its first output,
            that the other makes too; `None` where no output has several values there.
        error: the difference of all outputs, relative to the size of the original's.
    """

    top1: float | None
    error: float

    def is_worse_than(self, other: Agreement) -> bool:
        """True if fewer predictions are the same, or as many and the outputs differ by more."""
        if self.top1 is None or other.top1 is None or self.top1 == other.top1:
            return not self.error <= other.error
        return self.top1 < other.top1


def outputs_of(network: nn.Module, images: Tensor, batch: int) -> list[Tensor]:
    """What a network in eval mode returns for images, tensor by tensor, in float64.

    Args:
        network: the network.
        images: shape `(n, ...)`.
        batch: how many run at a time.
    """
    rows = []
    for part in torch.split(images, batch):
        leaves = pytree.tree_leaves(network(part))
        rows.append([leaf.double() for leaf in leaves if isinstance(leaf, Tensor)])
    return [torch.cat(column) for column in zip(*rows, strict=True)]


def agreement(expected: list[Tensor], actual: list[Tensor]) -> Agreement:
    """Compare what two networks return for the same images.

    Args:
        expected: the original's outputs, tensor by tensor.
        actual: the other's, in the same order and of the same shapes.
    """
    lost = sum(
        float((ours - theirs).square().sum()) for ours, theirs in zip(expected, actual, strict=True)
    )
    size = sum(float(ours.square().sum()) for ours in expected)
    error = (lost / size) ** 0.5 if size else float(lost > 0)
    first = expected[0]
    if first.ndim < 2 or first.shape[1] < 2:
        return Agreement(None, error)
    same = first.argmax(1) == actual[0].argmax(1)
    return Agreement(float(same.double().mean()), error)
