"""VGG without 30 % of its parameters: 132.86 -> 93.02 M, 7.61 -> 5.44 GMACs.

Written by prunecore (random, level 30) from torchvision.models.vgg11. Edit freely.
"""

import torch
from torch import Tensor, nn


class VGG(nn.Module):
    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 52, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(52, 111, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(111, 222, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(222, 219, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(219, 432, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(432, 419, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(419, 418, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(418, 426, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(20874, 3416),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(3416, 3471),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(3471, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = torch.flatten(self.avgpool(x), 1)
        return self.classifier(x)


def vgg11(weights: str | None = None, **arguments: int) -> VGG:
    """Build the network; `weights` is the path of its .safetensors file."""
    model = VGG(**arguments)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model
