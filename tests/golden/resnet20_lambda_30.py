"""ResNet20 without 30 % of its parameters: 269.72 -> 188.62 k, 40.55 -> 27.30 MMACs.

Written by prunecore (random, level 30) from networks.resnet20_lambda. Edit freely.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class LambdaLayer(nn.Module):
    def __init__(self, pad_width1: int, pad_width2: int) -> None:
        super().__init__()
        self.pad_width1 = pad_width1
        self.pad_width2 = pad_width2

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(
            x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad_width1, self.pad_width2), value=0
        )


class LambdaBlock(nn.Module):
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
        self.conv1 = nn.Conv2d(3, 12, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        self.layer1 = nn.Sequential(
            LambdaBlock(12, 14, 12, shortcut=nn.Sequential()),
            LambdaBlock(12, 15, 12, shortcut=nn.Sequential()),
            LambdaBlock(12, 12, 12, shortcut=nn.Sequential()),
        )
        self.layer2 = nn.Sequential(
            LambdaBlock(12, 29, 25, shortcut=LambdaLayer(7, 6), stride=2),
            LambdaBlock(25, 27, 25, shortcut=nn.Sequential()),
            LambdaBlock(25, 27, 25, shortcut=nn.Sequential()),
        )
        self.layer3 = nn.Sequential(
            LambdaBlock(25, 54, 53, shortcut=LambdaLayer(15, 13), stride=2),
            LambdaBlock(53, 56, 53, shortcut=nn.Sequential()),
            LambdaBlock(53, 55, 53, shortcut=nn.Sequential()),
        )
        self.linear = nn.Linear(53, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer1(out)
        out = self.layer2(out)
        out = self.layer3(out)
        out = F.avg_pool2d(out, out.size()[3])
        out = out.view(out.size(0), -1)
        return self.linear(out)


def resnet20_lambda(weights: str | None = None, **arguments: int) -> ResNet20:
    """Build the network; `weights` is the path of its .safetensors file."""
    model = ResNet20(**arguments)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model
