"""RegNet without 50 % of its parameters: 4.34 -> 2.17 M, 401.84 -> 220.05 MMACs.

Written by prunecore (random, level 50) from torchvision.models.regnet_y_400mf. Edit freely.
"""

from collections import OrderedDict

from torch import Tensor, nn


class SqueezeExcitation(nn.Module):
    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeeze, 1)
        self.fc2 = nn.Conv2d(squeeze, channels, 1)
        self.activation = nn.ReLU()
        self.scale_activation = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        scale = self.activation(self.fc1(self.avgpool(x)))
        return self.scale_activation(self.fc2(scale)) * x


class Conv2dNormActivation(nn.Sequential):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        activation: type[nn.Module] | None = None,
    ) -> None:
        super().__init__(
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                stride=stride,
                padding=kernel_size // 2,
                groups=groups,
                bias=False,
            ),
            nn.BatchNorm2d(out_channels),
        )
        if activation is not None:
            self.append(activation(inplace=True))


class BottleneckTransform(nn.Sequential):
    def __init__(
        self,
        in_channels: int,
        a_width: int,
        b_width: int,
        se_width: int,
        out_channels: int,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.a = Conv2dNormActivation(in_channels, a_width, 1, activation=nn.ReLU)
        self.b = Conv2dNormActivation(
            a_width, b_width, 3, stride=stride, groups=groups, activation=nn.ReLU
        )
        self.se = SqueezeExcitation(b_width, se_width)
        self.c = Conv2dNormActivation(b_width, out_channels, 1)


class ResBottleneckBlock(nn.Module):
    def __init__(
        self,
        in_channels: int,
        a_width: int,
        b_width: int,
        se_width: int,
        out_channels: int,
        proj: nn.Module | None = None,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.proj = proj
        self.f = BottleneckTransform(
            in_channels,
            a_width,
            b_width,
            se_width,
            out_channels,
            stride=stride,
            groups=groups,
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.proj is None else self.proj(x)
        return self.activation(identity + self.f(x))


class RegNet(nn.Module):
    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 23, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(23),
            nn.ReLU(inplace=True),
        )
        self.trunk_output = nn.Sequential(
            OrderedDict(
                block1=nn.Sequential(
                    OrderedDict(
                        {
                            "block1-0": ResBottleneckBlock(
                                23,
                                48,
                                36,
                                6,
                                34,
                                proj=Conv2dNormActivation(23, 34, 1, stride=2),
                                stride=2,
                                groups=6,
                            ),
                        },
                    ),
                ),
                block2=nn.Sequential(
                    OrderedDict(
                        {
                            "block2-0": ResBottleneckBlock(
                                34,
                                80,
                                80,
                                7,
                                71,
                                proj=Conv2dNormActivation(34, 71, 1, stride=2),
                                stride=2,
                                groups=10,
                            ),
                            "block2-1": ResBottleneckBlock(
                                71, 80, 80, 21, 71, groups=10
                            ),
                            "block2-2": ResBottleneckBlock(
                                71, 96, 96, 20, 71, groups=12
                            ),
                        },
                    ),
                ),
                block3=nn.Sequential(
                    OrderedDict(
                        {
                            "block3-0": ResBottleneckBlock(
                                71,
                                136,
                                136,
                                14,
                                150,
                                proj=Conv2dNormActivation(71, 150, 1, stride=2),
                                stride=2,
                                groups=17,
                            ),
                            "block3-1": ResBottleneckBlock(
                                150, 160, 160, 32, 150, groups=20
                            ),
                            "block3-2": ResBottleneckBlock(
                                150, 128, 128, 37, 150, groups=16
                            ),
                            "block3-3": ResBottleneckBlock(
                                150, 144, 144, 35, 150, groups=18
                            ),
                            "block3-4": ResBottleneckBlock(
                                150, 152, 152, 37, 150, groups=19
                            ),
                            "block3-5": ResBottleneckBlock(
                                150, 176, 176, 37, 150, groups=22
                            ),
                        },
                    ),
                ),
                block4=nn.Sequential(
                    OrderedDict(
                        {
                            "block4-0": ResBottleneckBlock(
                                150,
                                296,
                                296,
                                33,
                                297,
                                proj=Conv2dNormActivation(150, 297, 1, stride=2),
                                stride=2,
                                groups=37,
                            ),
                            "block4-1": ResBottleneckBlock(
                                297, 280, 280, 77, 297, groups=35
                            ),
                            "block4-2": ResBottleneckBlock(
                                297, 296, 296, 68, 297, groups=37
                            ),
                            "block4-3": ResBottleneckBlock(
                                297, 280, 280, 65, 297, groups=35
                            ),
                            "block4-4": ResBottleneckBlock(
                                297, 264, 264, 71, 297, groups=33
                            ),
                            "block4-5": ResBottleneckBlock(
                                297, 328, 328, 76, 297, groups=41
                            ),
                        },
                    ),
                ),
            ),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(297, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.trunk_output(x)
        x = self.avgpool(x).flatten(start_dim=1)
        return self.fc(x)


def regnet_y_400mf(weights: str | None = None, **arguments: int) -> RegNet:
    """Build the network; `weights` is the path of its .safetensors file."""
    model = RegNet(**arguments)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model
