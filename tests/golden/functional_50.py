"""Functional without 51 % of its parameters: 95.07 -> 46.80 k, 5.16 -> 2.08 MMACs.

Written by prunecore (random, level 50) from networks.functional. Edit freely.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Functional(nn.Module):
    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 15, 3, padding=1)
        self.left = nn.Conv2d(15, 13, 3, padding=1)
        self.right = nn.Conv2d(15, 12, 1)
        self.merge = nn.Conv2d(25, 15, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(15)
        self.conv2 = nn.Conv2d(15, 31, 3, stride=2, padding=1)
        self.flat = nn.Linear(496, 24)
        self.viewed = nn.Linear(496, 24)
        self.literal = nn.Linear(496, 24)
        self.mean = nn.Linear(31, 24)
        self.fc = nn.Linear(24, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        both = torch.cat([F.relu(self.left(x)), torch.sigmoid(self.right(x))], 1)
        x = F.relu(self.norm(self.merge(both)) + x)
        x = F.adaptive_avg_pool2d(F.relu(self.conv2(x)), 4)
        x = F.dropout(x, p=0.2, training=self.training)
        flat = torch.flatten(x, 1)
        flat = self.flat(flat)
        viewed = x.view(x.size(0), -1)
        viewed = self.viewed(viewed)
        literal = x.view(-1, 496)
        literal = self.literal(literal)
        mean = x.mean([2, 3])
        mean = self.mean(mean)
        flat = flat + viewed * 0.5 + literal
        flat = F.relu(flat + mean)
        return self.fc(flat)


def functional(weights: str | None = None, **arguments: int) -> Functional:
    """Build the network; `weights` is the path of its .safetensors file."""
    model = Functional(**arguments)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model
