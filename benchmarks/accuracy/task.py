"""What networks are trained for and tried on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

# images, shape (n, *task.shape), and their labels
Labelled = tuple[Tensor, Tensor]

IMAGES = 256  # without labels, that both tools may look at


@dataclass(frozen=True)
class Task:
    """Images to be told apart.

    Attributes:
        name: of the images, in a sentence.
        shape: of one image: channels, height, width.
        classes: how many there are.
        epochs: how long networks are trained.
        epoch_length: images in an epoch.
        training: the images of an epoch, of a seed and the epoch's number.
        calibration: images that may be looked at without their labels, shape `(256, *shape)`.
        test: what networks are tried on.
        folder: of trained weights and results.
    """

    name: str
    shape: tuple[int, int, int]
    classes: int
    epochs: int
    epoch_length: int
    training: Callable[[int, int], Labelled]
    calibration: Tensor
    test: Labelled
    folder: Path


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Percentage of the images that a network in eval mode reads right."""
    predicted = torch.cat([network(batch).argmax(1) for batch in torch.split(images, 128)])
    return float((predicted == labels).double().mean() * 100)
