"""CIFAR-10, where it is on the disk in torchvision's layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from task import IMAGES, Labelled, Task
from torch import Tensor
from torchvision.datasets import CIFAR10

_EPOCHS = 6
_TESTED = 3000
_REACH = 4  # pixels that a training image is shifted by at most
_MEAN, _STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def cifar(folder: str) -> Task:
    """CIFAR-10; the images that may be looked at are those of training, as they are.

    Args:
        folder: which has `cifar-10-batches-py` in it. Nothing is downloaded.

    Raises:
        RuntimeError: the data set is not there, or not whole.
    """
    images, labels = _read(folder, train=True)
    tested, expected = _read(folder, train=False)

    def training(seed: int, epoch: int) -> Labelled:
        random = torch.Generator().manual_seed(1000 * seed + epoch)
        order = torch.randperm(len(images), generator=random)
        return _varied(images[order], random), labels[order]

    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(99))[:IMAGES]
    return Task(
        name="CIFAR-10",
        shape=(3, 32, 32),
        classes=10,
        epochs=_EPOCHS,
        epoch_length=len(images),
        training=training,
        calibration=images[chosen],
        test=(tested[:_TESTED], expected[:_TESTED]),
        folder=Path("build/quality/cifar"),
    )


def _read(folder: str, train: bool) -> Labelled:
    data = CIFAR10(folder, train=train, download=False)
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).float() / 255
    return _normalised(images), torch.tensor(data.targets)


def _normalised(images: Tensor) -> Tensor:
    mean, std = (_of_channels(values) for values in (_MEAN, _STD))
    return (images - mean) / std


def _of_channels(values: Sequence[float]) -> Tensor:
    return torch.tensor(values)[:, None, None]


def _varied(images: Tensor, random: torch.Generator) -> Tensor:
    """Shifted by some pixels, and half of them mirrored."""
    height, width = images.shape[2:]
    padded = F.pad(images, (_REACH,) * 4)
    count = torch.arange(len(images))[:, None, None]
    down, across = (
        torch.randint(2 * _REACH + 1, (len(images), 1, 1), generator=random) for _ in range(2)
    )
    rows = down + torch.arange(height)[:, None]
    columns = across + torch.arange(width)
    mirrored = torch.rand(len(images), 1, 1, generator=random) < 0.5
    columns = torch.where(mirrored, columns.flip(2), columns)
    return padded.permute(0, 2, 3, 1)[count, rows, columns].permute(0, 3, 1, 2).contiguous()
