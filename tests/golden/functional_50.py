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
        out = torch.cat([F.relu(self.left(x)), torch.sigmoid(self.right(x))], 1)
        out = F.relu(self.norm(self.merge(out)) + x)
        out = F.adaptive_avg_pool2d(F.relu(self.conv2(out)), 4)
        out = F.dropout(out, p=0.2, training=self.training)
        flatten = torch.flatten(out, 1)
        flatten = self.flat(flatten)
        view = out.view(out.size(0), -1)
        view = self.viewed(view)
        out2 = out.view(-1, 496)
        out2 = self.literal(out2)
        out = out.mean([2, 3])
        out = self.mean(out)
        flatten = flatten + view * 0.5 + out2
        flatten = F.relu(flatten + out)
        return self.fc(flatten)


def functional(weights: str | None = None, **arguments: int) -> Functional:
    """Build the network; `weights` is the path of its .safetensors file."""
    model = Functional(**arguments)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model
