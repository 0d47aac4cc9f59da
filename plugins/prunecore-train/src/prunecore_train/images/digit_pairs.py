"""Images of two handwritten digits side by side.

The digits are scikit-learn's. An image is a pair of them, shifted by up to 2 pixels and with noise;
its class is the number from 0 to 99 that they spell. Pairs of different parts are made of digits
that are apart.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SHAPE = (1, 10, 18)
# which of the 1797 digits, in an order that a seed gives, make the pairs of a part
PARTS = {"train": slice(0, 1000), "val": slice(1000, 1200), "test": slice(1200, None)}
_MEAN, _STD = 0.3, 0.35


def pairs(count: int, digits: slice, seed: int) -> tuple[Tensor, Tensor]:
    """Images of two digits, and their labels.

    Args:
        count: how many.
        digits: which of the digits they are made of.
        seed: which pairs, shifts and noise.

    Returns:
        Images, shape `(count, 1, 10, 18)`, and labels from 0 to 99.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    chosen = order[digits]
    single = torch.tensor(data.images, dtype=torch.float32)[chosen] / 16
    labels = torch.tensor(data.target)[chosen]
    random = torch.Generator().manual_seed(seed)
    left = torch.randint(len(single), (count,), generator=random)
    right = torch.randint(len(single), (count,), generator=random)
    wide = F.pad(torch.cat([single[left], single[right]], 2), (2, 2, 2, 2))
    windows = wide.unfold(1, SHAPE[1], 1).unfold(2, SHAPE[2], 1)  # every shift of every image
    down = torch.randint(3, (count,), generator=random)
    across = torch.randint(3, (count,), generator=random)
    images = windows[torch.arange(count), down, across][:, None]
    noisy = images + 0.15 * torch.randn(images.shape, generator=random)
    return (noisy - _MEAN) / _STD, labels[left] * 10 + labels[right]
