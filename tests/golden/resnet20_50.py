"""ResNet20 without 50 % of its parameters: 272.47 -> 135.66 k, 40.81 -> 18.75 MMACs.

Written by prunecore (random, level 50) from networks.resnet20. Edit freely.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class DecoratedBlock(nn.Module):
    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        shortcut: nn.Module,
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            in_channels, width, 3, stride=stride, padding=1, bias=False
        )
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet20(nn.Module):
    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 10, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(10)
        self.layer1 = nn.Sequential(
            DecoratedBlock(10, 13, 10, shortcut=nn.Sequential()),
            DecoratedBlock(10, 11, 10, shortcut=nn.Sequential()),
            DecoratedBlock(10, 7, 10, shortcut=nn.Sequential()),
        )
        self.layer2 = nn.Sequential(
            DecoratedBlock(
                10,
                27,
                20,
                shortcut=nn.Sequential(
                    nn.Conv2d(10, 20, 1, stride=2, bias=False),
                    nn.BatchNorm2d(20),
                ),
                stride=2,
            ),
            DecoratedBlock(20, 22, 20, shortcut=nn.Sequential()),
            DecoratedBlock(20, 23, 20, shortcut=nn.Sequential()),
        )
        self.layer3 = nn.Sequential(
            DecoratedBlock(
                20,
                45,
                48,
                shortcut=nn.Sequential(
                    nn.Conv2d(20, 48, 1, stride=2, bias=False),
                    nn.BatchNorm2d(48),
                ),
                stride=2,
            ),
            DecoratedBlock(48, 38, 48, shortcut=nn.Sequential()),
            DecoratedBlock(48, 50, 48, shortcut=nn.Sequential()),
        )
        self.linear = nn.Linear(48, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer1(out)
        out = self.layer2(out)
        out = self.layer3(out)
        out = F.avg_pool2d(out, out.size()[3])
        out = out.view(out.size(0), -1)
        return self.linear(out)


def resnet20(weights: str | None = None, **arguments: int) -> ResNet20:
    """Build the network; `weights` is the path of its .safetensors file."""
    model = ResNet20(**arguments)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model
