"""Images of two handwritten digits side by side.

The digits are scikit-learn's. An image is a pair of them, shifted by up to 2 pixels and with noise;
its class is the number from 0 to 99 that they spell. Training and test pairs are made of digits
that are apart.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from task import IMAGES, Labelled, Task

SHAPE = (1, 10, 18)
_EPOCH = 12_000
_TRAINING_DIGITS = 1200  # of 1797; the others make test pairs
_MEAN, _STD = 0.3, 0.35


def digits() -> Task:
    """Pairs of digits; a network takes about 80 s of training on one core."""
    return Task(
        name="pairs of handwritten digits",
        shape=SHAPE,
        classes=100,
        epochs=9,
        epoch_length=_EPOCH,
        training=lambda seed, epoch: pairs(_EPOCH, "train", 1000 * seed + epoch),
        calibration=pairs(IMAGES, "train", 99)[0],
        test=pairs(3000, "test", 7),
        folder=Path("build/quality"),
    )


def pairs(count: int, part: str, seed: int) -> Labelled:
    """Images of two digits, and their labels.

    Args:
        count: how many.
        part: `"train"` or `"test"`: which digits they are made of.
        seed: which pairs, shifts and noise.

    Returns:
        Images, shape `(count, 1, 10, 18)`, and labels from 0 to 99.
    """
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    chosen = order[:_TRAINING_DIGITS] if part == "train" else order[_TRAINING_DIGITS:]
    digits = torch.tensor(data.images, dtype=torch.float32)[chosen] / 16
    labels = torch.tensor(data.target)[chosen]
    random = torch.Generator().manual_seed(seed)
    left = torch.randint(len(digits), (count,), generator=random)
    right = torch.randint(len(digits), (count,), generator=random)
    wide = F.pad(torch.cat([digits[left], digits[right]], 2), (2, 2, 2, 2))
    windows = wide.unfold(1, SHAPE[1], 1).unfold(2, SHAPE[2], 1)  # every shift of every image
    down = torch.randint(3, (count,), generator=random)
    across = torch.randint(3, (count,), generator=random)
    images = windows[torch.arange(count), down, across][:, None]
    noisy = images + 0.15 * torch.randn(images.shape, generator=random)
    return (noisy - _MEAN) / _STD, labels[left] * 10 + labels[right]
