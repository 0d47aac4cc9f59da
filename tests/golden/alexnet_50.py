"""AlexNet without 50 % of its parameters: 61.10 -> 30.55 M, 714.19 -> 382.02 MMACs.

Written by prunecore (random, level 50) from torchvision.models.alexnet. Edit freely.
"""

import torch
from torch import Tensor, nn


class AlexNet(nn.Module):
    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 45, 11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(45, 144, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(144, 277, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(277, 180, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(180, 178, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Linear(6408, 2856),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(2856, 2844),
            nn.ReLU(inplace=True),
            nn.Linear(2844, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = torch.flatten(self.avgpool(x), 1)
        return self.classifier(x)


def alexnet(weights: str | None = None, **arguments: int) -> AlexNet:
    """Build the network; `weights` is the path of its .safetensors file."""
    model = AlexNet(**arguments)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model
