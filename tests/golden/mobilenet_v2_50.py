"""MobileNetV2 without 50 % of its parameters: 3.50 -> 1.75 M, 300.77 -> 132.27 MMACs.

Written by prunecore (random, level 50) from torchvision.models.mobilenet_v2. Edit freely.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_norm(conv: nn.Conv2d, *activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), *activation)


class InvertedResidual(nn.Module):
    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        stride: int = 1,
        expand: bool = True,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.use_res_connect = skip
        layers = []
        if expand:
            expansion = nn.Conv2d(in_channels, width, 1, bias=False)
            layers.append(conv_norm(expansion, nn.ReLU6(inplace=True)))
        depthwise = nn.Conv2d(
            width, width, 3, stride=stride, padding=1, groups=width, bias=False
        )
        self.conv = nn.Sequential(
            *layers,
            conv_norm(depthwise, nn.ReLU6(inplace=True)),
            nn.Conv2d(width, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Sequential(
                nn.Conv2d(3, 23, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(23),
                nn.ReLU6(inplace=True),
            ),
            InvertedResidual(23, 23, 10, expand=False),
            InvertedResidual(10, 66, 16, stride=2),
            InvertedResidual(16, 105, 16, skip=True),
            InvertedResidual(16, 97, 20, stride=2),
            InvertedResidual(20, 122, 20, skip=True),
            InvertedResidual(20, 125, 20, skip=True),
            InvertedResidual(20, 127, 40, stride=2),
            InvertedResidual(40, 240, 40, skip=True),
            InvertedResidual(40, 228, 40, skip=True),
            InvertedResidual(40, 228, 40, skip=True),
            InvertedResidual(40, 254, 57),
            InvertedResidual(57, 377, 57, skip=True),
            InvertedResidual(57, 358, 57, skip=True),
            InvertedResidual(57, 366, 100, stride=2),
            InvertedResidual(100, 621, 100, skip=True),
            InvertedResidual(100, 596, 100, skip=True),
            InvertedResidual(100, 612, 204),
            nn.Sequential(
                nn.Conv2d(204, 840, 1, bias=False),
                nn.BatchNorm2d(840),
                nn.ReLU6(inplace=True),
            ),
        )
        self.classifier = nn.Sequential(nn.Dropout(p=0.2), nn.Linear(840, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1)
        return self.classifier(x)


def mobilenet_v2(weights: str | None = None, **arguments: int) -> MobileNetV2:
    """Build the network; `weights` is the path of its .safetensors file."""
    model = MobileNetV2(**arguments)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model
