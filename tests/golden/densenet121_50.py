"""DenseNet without 50 % of its parameters: 7.98 -> 3.99 M, 2.83 -> 1.36 GMACs.

Written by prunecore (random, level 50) from torchvision.models.densenet121. Edit freely.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _DenseLayer(nn.Module):
    def __init__(self, norm1_width: int, conv1_width: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(norm1_width)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(norm1_width, conv1_width, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(conv1_width)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(conv1_width, out_channels, 3, padding=1, bias=False)

    def forward(self, input: list[Tensor]) -> Tensor:
        bottleneck_output = self.relu1(self.norm1(torch.cat(input, 1)))
        new_features = self.relu2(self.norm2(self.conv1(bottleneck_output)))
        return self.conv2(new_features)


class _Transition(nn.Sequential):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.pool = nn.AvgPool2d(2)


class _DenseBlock(nn.ModuleDict):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(
            {f"denselayer{number}": layer for number, layer in enumerate(layers, 1)}
        )

    def forward(self, init_features: Tensor) -> Tensor:
        outputs = [init_features]
        for layer in self.values():
            outputs.append(layer(outputs))
        return torch.cat(outputs, 1)


class DenseNet(nn.Module):
    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                conv0=nn.Conv2d(3, 44, 7, stride=2, padding=3, bias=False),
                norm0=nn.BatchNorm2d(44),
                relu0=nn.ReLU(inplace=True),
                pool0=nn.MaxPool2d(3, stride=2, padding=1),
                denseblock1=_DenseBlock(
                    _DenseLayer(44, 95, 21),
                    _DenseLayer(65, 99, 20),
                    _DenseLayer(85, 97, 23),
                    _DenseLayer(108, 84, 21),
                    _DenseLayer(129, 90, 19),
                    _DenseLayer(148, 100, 17),
                ),
                transition1=_Transition(165, 88),
                denseblock2=_DenseBlock(
                    _DenseLayer(88, 88, 22),
                    _DenseLayer(110, 89, 19),
                    _DenseLayer(129, 89, 23),
                    _DenseLayer(152, 86, 24),
                    _DenseLayer(176, 73, 20),
                    _DenseLayer(196, 81, 19),
                    _DenseLayer(215, 90, 22),
                    _DenseLayer(237, 90, 22),
                    _DenseLayer(259, 85, 24),
                    _DenseLayer(283, 89, 23),
                    _DenseLayer(306, 96, 26),
                    _DenseLayer(332, 83, 21),
                ),
                transition2=_Transition(353, 182),
                denseblock3=_DenseBlock(
                    _DenseLayer(182, 89, 22),
                    _DenseLayer(204, 89, 19),
                    _DenseLayer(223, 85, 24),
                    _DenseLayer(247, 84, 28),
                    _DenseLayer(275, 91, 24),
                    _DenseLayer(299, 81, 24),
                    _DenseLayer(323, 88, 21),
                    _DenseLayer(344, 98, 18),
                    _DenseLayer(362, 84, 24),
                    _DenseLayer(386, 87, 22),
                    _DenseLayer(408, 88, 24),
                    _DenseLayer(432, 88, 27),
                    _DenseLayer(459, 95, 22),
                    _DenseLayer(481, 87, 15),
                    _DenseLayer(496, 89, 25),
                    _DenseLayer(521, 92, 21),
                    _DenseLayer(542, 87, 17),
                    _DenseLayer(559, 85, 23),
                    _DenseLayer(582, 80, 23),
                    _DenseLayer(605, 78, 20),
                    _DenseLayer(625, 88, 29),
                    _DenseLayer(654, 89, 19),
                    _DenseLayer(673, 87, 23),
                    _DenseLayer(696, 89, 23),
                ),
                transition3=_Transition(719, 340),
                denseblock4=_DenseBlock(
                    _DenseLayer(340, 85, 24),
                    _DenseLayer(364, 92, 23),
                    _DenseLayer(387, 86, 21),
                    _DenseLayer(408, 93, 20),
                    _DenseLayer(428, 90, 20),
                    _DenseLayer(448, 88, 24),
                    _DenseLayer(472, 85, 19),
                    _DenseLayer(491, 92, 21),
                    _DenseLayer(512, 96, 23),
                    _DenseLayer(535, 91, 19),
                    _DenseLayer(554, 84, 22),
                    _DenseLayer(576, 88, 24),
                    _DenseLayer(600, 85, 20),
                    _DenseLayer(620, 90, 19),
                    _DenseLayer(639, 94, 24),
                    _DenseLayer(663, 85, 22),
                ),
                norm5=nn.BatchNorm2d(685),
            ),
        )
        self.classifier = nn.Linear(685, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        features = self.features(x)
        out = F.adaptive_avg_pool2d(F.relu(features, inplace=True), (1, 1))
        out = torch.flatten(out, 1)
        return self.classifier(out)


def densenet121(weights: str | None = None, **arguments: int) -> DenseNet:
    """Build the network; `weights` is the path of its .safetensors file."""
    model = DenseNet(**arguments)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model
