"""The network that is varied."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

SHAPE = (6,)  # of an input of each of them, without the batch


class Net(nn.Module):
    """From 6 features to 4, through 8 that something may be done to."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(F.relu(self.first(x))))

    def between(self, x: Tensor) -> Tensor:
        return x
