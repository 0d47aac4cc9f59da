"""How far a smaller network answers as its original does, on images without labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

_ROUNDING = 1e-9  # of shares


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

    def is_worse_than(self, other: Agreement, images: int) -> bool:
        """True if fewer predictions are the same, where that is no chance or outputs are worse too.

        Where as many are the same, or there are none, outputs that differ by more are worse.

        Args:
            other: that of the network before.
            images: how many both were judged by.
        """
        if self.top1 is None or other.top1 is None or self.top1 == other.top1:
            return not self.error <= other.error
        if not self.top1 < other.top1:
            return False
        return not self.error <= other.error or is_clearly_less(self.top1, other.top1, images)


def standard_error(share: float, images: int) -> float:
    """By how much a share may be off that is that of so many images; never 0, as they are few."""
    return math.sqrt((share * (1 - share) + 1 / images) / images)


def is_clearly_less(share: float, other: float, images: int) -> bool:
    """True if a share of images is less than another by more than a standard error of the latter.

    After the rule of one standard error of Breiman et al., "Classification and Regression Trees",
    1984.

    Args:
        share: of the images.
        other: likewise, of the same ones.
        images: how many they are.
    """
    return other - share - standard_error(other, images) > _ROUNDING


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
