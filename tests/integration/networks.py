"""The networks that the tests cut: torchvision's, and ones that a user could have written."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from prunecore_resnet import basic_block

from . import cifar


def from_torchvision(name: str) -> nn.Module:
    """A network of torchvision with made-up trained weights."""
    # what their weights are at first does not matter, and torchvision warns if nobody says it
    arguments = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if name == "inception_v3":
        arguments["aux_logits"] = False  # which takes no input that is smaller than 299 x 299
    computes = name.startswith("regnet")  # its constructor reads numbers from tensors
    with torch.device("cpu" if computes else "meta"):
        model: nn.Module = getattr(torchvision.models, name)(**arguments)
    return filled(model.to_empty(device="cpu"))


def filled(model: nn.Module) -> nn.Module:
    """Give every weight and statistic a value of its own.

    A batch norm fresh from its constructor is the identity, which mistakes could hide behind. The
    values are numpy's: the same on every machine, unlike those of torch.
    """
    random = np.random.default_rng(0)
    stored = [*model.named_parameters(), *model.named_buffers()]
    with torch.no_grad():
        for name, tensor in stored:
            if not tensor.is_floating_point():
                tensor.zero_()
                continue
            noise = torch.from_numpy(2 * random.random(tensor.shape, dtype=np.float32) - 1)
            if tensor.ndim > 1:
                tensor.copy_(noise * math.sqrt(6 / tensor[0].numel()))  # keeps signals in size
            elif name.endswith(("weight", "running_var")):
                tensor.copy_(1 + noise / 2)
            else:
                tensor.copy_(noise / 4)
    return model.eval()


class Shortcut(nn.Module):
    """He et al.'s shortcut without weights: every second place, and channels of zeros."""

    def __init__(self, added: int) -> None:
        super().__init__()
        self.added = added

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.added // 2, self.added // 2))


class PlainBlock(nn.Module):
    """The block of CIFAR's ResNets, its shortcut by option A (padding) or B (a convolution)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, option: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1 and option == "A":
            self.shortcut = Shortcut(out_channels - in_channels)
        elif stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


@basic_block(lType="residual", convs=["conv1", "conv2"], downsampling=["shortcut"])
class DecoratedBlock(PlainBlock):
    """The same in the care of the residual family."""


class ResNet20(nn.Module):
    """CIFAR's ResNet of three stages with three blocks each."""

    def __init__(self, block: Any, option: str, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(block, 16, 16, 1, option)
        self.layer2 = self._stage(block, 16, 32, 2, option)
        self.layer3 = self._stage(block, 32, 64, 2, option)
        self.linear = nn.Linear(64, num_classes)

    def _stage(
        self, block: Any, in_channels: int, out_channels: int, stride: int, option: str
    ) -> nn.Sequential:
        first = block(in_channels, out_channels, stride, option)
        rest = [block(out_channels, out_channels, 1, option) for _ in range(2)]
        return nn.Sequential(first, *rest)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer1(out)
        out = self.layer2(out)
        out = self.layer3(out)
        out = F.avg_pool2d(out, out.size()[3])
        out = out.view(out.size(0), -1)
        return self.linear(out)


class LambdaLayer(nn.Module):
    """The way in which most copies of CIFAR's ResNets hold their shortcut."""

    def __init__(self, lambd: Any) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, x: Tensor) -> Tensor:
        return self.lambd(x)


class LambdaBlock(PlainBlock):
    """A block whose shortcut is a lambda, after Idelbayev's ResNets for CIFAR."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, option: str) -> None:
        super().__init__(in_channels, out_channels, stride, option)
        if stride != 1:
            self.shortcut = LambdaLayer(
                lambda x: F.pad(
                    x[:, :, ::2, ::2],
                    (0, 0, 0, 0, out_channels // 4, out_channels // 4),
                    "constant",
                    0,
                )
            )


class Functional(nn.Module):
    """The calls that people write between layers, each at least once."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, 3, padding=1)
        self.left = nn.Conv2d(24, 20, 3, padding=1)
        self.right = nn.Conv2d(24, 28, 1)
        self.merge = nn.Conv2d(48, 24, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(24)
        self.conv2 = nn.Conv2d(24, 36, 3, stride=2, padding=1)
        self.flat = nn.Linear(36 * 4 * 4, 40)
        self.viewed = nn.Linear(36 * 4 * 4, 40)
        self.literal = nn.Linear(36 * 4 * 4, 40)
        self.mean = nn.Linear(36, 40)
        self.fc = nn.Linear(40, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        both = torch.cat([F.relu(self.left(x)), torch.sigmoid(self.right(x))], 1)
        x = F.relu(self.norm(self.merge(both)) + x)
        x = F.adaptive_avg_pool2d(F.relu(self.conv2(x)), 4)
        x = F.dropout(x, p=0.2, training=self.training)
        flat = self.flat(torch.flatten(x, 1))
        viewed = self.viewed(x.view(x.size(0), -1))
        literal = self.literal(x.view(-1, 576))
        mean = self.mean(x.mean([2, 3]))
        return self.fc(F.relu(flat + viewed * 0.5 + literal + mean))


def vision_transformer() -> nn.Module:
    """torchvision's, for images of CIFAR's size."""
    model: nn.Module = torchvision.models.VisionTransformer(
        image_size=32,
        patch_size=8,
        num_layers=4,
        num_heads=8,
        hidden_dim=64,
        mlp_dim=128,
        num_classes=10,
    )
    return filled(model)


def swin() -> nn.Module:
    """torchvision's, for images of CIFAR's size."""
    model: nn.Module = torchvision.models.SwinTransformer(
        patch_size=[2, 2],
        embed_dim=24,
        depths=[2, 2],
        num_heads=[3, 6],
        window_size=[4, 4],
        num_classes=10,
    )
    return filled(model)


NETWORKS = {
    "resnet20_plain_a": lambda: filled(ResNet20(PlainBlock, "A")),
    "resnet20_plain_b": lambda: filled(ResNet20(PlainBlock, "B")),
    "resnet20_decorated_a": lambda: filled(ResNet20(DecoratedBlock, "A")),
    "resnet20_decorated_b": lambda: filled(ResNet20(DecoratedBlock, "B")),
    "resnet20_lambda": lambda: filled(ResNet20(LambdaBlock, "A")),
    "functional": lambda: filled(Functional()),
    "mobilenet_v2_cifar": lambda: filled(cifar.MobileNetV2()),
    "squeezenet_cifar": lambda: filled(cifar.SqueezeNet()),
    "googlenet_cifar": lambda: filled(cifar.GoogLeNet()),
    "vit_cifar": vision_transformer,
    "swin_cifar": swin,
}


def network(name: str) -> nn.Module:
    """A network by its name."""
    return NETWORKS[name]() if name in NETWORKS else from_torchvision(name)
