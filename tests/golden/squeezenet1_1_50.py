"""SqueezeNet without 50 % of its parameters: 1.24 -> 0.62 M, 349.15 -> 167.54 MMACs.

Written by prunecore (random, level 50) from torchvision.models.squeezenet1_1. Edit freely.
"""

import torch
from torch import Tensor, nn


class Fire(nn.Module):
    def __init__(
        self,
        inplanes: int,
        squeeze_planes: int,
        expand1x1_planes: int,
        expand3x3_planes: int,
    ) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inplanes, squeeze_planes, 1)
        self.squeeze_activation = nn.ReLU(inplace=True)
        self.expand1x1 = nn.Conv2d(squeeze_planes, expand1x1_planes, 1)
        self.expand1x1_activation = nn.ReLU(inplace=True)
        self.expand3x3 = nn.Conv2d(squeeze_planes, expand3x3_planes, 3, padding=1)
        self.expand3x3_activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze_activation(self.squeeze(x))
        expand1x1 = self.expand1x1_activation(self.expand1x1(x))
        expand3x3 = self.expand3x3_activation(self.expand3x3(x))
        return torch.cat([expand1x1, expand3x3], 1)


class SqueezeNet(nn.Module):
    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 40, 3, stride=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            Fire(40, 12, 46, 42),
            Fire(88, 10, 49, 42),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            Fire(91, 17, 92, 80),
            Fire(172, 19, 80, 89),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            Fire(169, 34, 118, 110),
            Fire(228, 37, 119, 117),
            Fire(236, 31, 140, 169),
            Fire(309, 43, 161, 168),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Conv2d(329, num_classes, 1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = self.classifier(x)
        return torch.flatten(x, 1)


def squeezenet1_1(weights: str | None = None, **arguments: int) -> SqueezeNet:
    """Build the network; `weights` is the path of its .safetensors file."""
    model = SqueezeNet(**arguments)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model
