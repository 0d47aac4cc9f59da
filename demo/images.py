"""Scikit-learn's 1797 scanned digits, parted for training and testing."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.utils.data import TensorDataset


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images, test images, shape `(n, 1, 8, 8)`, and their labels."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(data.target)
    split: list[Tensor] = train_test_split(
        images, labels, test_size=0.25, stratify=labels, random_state=0
    )
    train_images, test_images, train_labels, test_labels = split
    return train_images, test_images, train_labels, test_labels


def parts() -> dict[str, TensorDataset]:
    """The same for `prunecore adapt`."""
    train_images, test_images, train_labels, test_labels = digits()
    return {
        "train": TensorDataset(train_images, train_labels),
        "test": TensorDataset(test_images, test_labels),
    }
