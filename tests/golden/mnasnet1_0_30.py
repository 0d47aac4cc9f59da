"""MNASNet without 30 % of its parameters: 4.38 -> 3.07 M, 314.42 -> 212.31 MMACs.

Written by prunecore (random, level 30) from torchvision.models.mnasnet1_0. Edit freely.
"""

from torch import Tensor, nn


def batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, momentum=0.0003)


class _InvertedResidual(nn.Module):
    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.apply_residual = skip
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, width, 1, bias=False),
            batch_norm(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(
                width,
                width,
                kernel_size,
                stride=stride,
                padding=kernel_size // 2,
                groups=width,
                bias=False,
            ),
            batch_norm(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, out_channels, 1, bias=False),
            batch_norm(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + x if self.apply_residual else self.layers(x)


class MNASNet(nn.Module):
    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 25, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(25, momentum=0.0003),
            nn.ReLU(inplace=True),
            nn.Conv2d(25, 25, 3, padding=1, groups=25, bias=False),
            nn.BatchNorm2d(25, momentum=0.0003),
            nn.ReLU(inplace=True),
            nn.Conv2d(25, 15, 1, bias=False),
            nn.BatchNorm2d(15, momentum=0.0003),
            nn.Sequential(
                _InvertedResidual(15, 40, 18, 3, stride=2),
                _InvertedResidual(18, 62, 18, 3, skip=True),
                _InvertedResidual(18, 57, 18, 3, skip=True),
            ),
            nn.Sequential(
                _InvertedResidual(18, 58, 32, 5, stride=2),
                _InvertedResidual(32, 102, 32, 5, skip=True),
                _InvertedResidual(32, 98, 32, 5, skip=True),
            ),
            nn.Sequential(
                _InvertedResidual(32, 194, 71, 5, stride=2),
                _InvertedResidual(71, 376, 71, 5, skip=True),
                _InvertedResidual(71, 376, 71, 5, skip=True),
            ),
            nn.Sequential(
                _InvertedResidual(71, 374, 79, 3),
                _InvertedResidual(79, 464, 79, 3, skip=True),
            ),
            nn.Sequential(
                _InvertedResidual(79, 469, 151, 5, stride=2),
                _InvertedResidual(151, 910, 151, 5, skip=True),
                _InvertedResidual(151, 922, 151, 5, skip=True),
                _InvertedResidual(151, 923, 151, 5, skip=True),
            ),
            nn.Sequential(_InvertedResidual(151, 932, 259, 3)),
            nn.Conv2d(259, 1039, 1, bias=False),
            nn.BatchNorm2d(1039, momentum=0.0003),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(p=0.2, inplace=True),
            nn.Linear(1039, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(x)
        x = x.mean([2, 3])
        return self.classifier(x)


def mnasnet1_0(weights: str | None = None, **arguments: int) -> MNASNet:
    """Build the network; `weights` is the path of its .safetensors file."""
    model = MNASNet(**arguments)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model
