"""Three small networks of three kinds, and training them for a task."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from task import Task
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2] / "demo"))
from resnet20 import resnet20


class VGG(nn.Module):
    """Eight convolutions with batch norms, after Simonyan and Zisserman, 2015, arXiv 1409.1556."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = in_channels
        for step in (32, 32, "M", 64, 64, "M", 128, 128, 128, "M", 128, 128):
            if isinstance(step, str):
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
            else:
                conv = nn.Conv2d(width, step, 3, padding=1, bias=False)
                layers += [conv, nn.BatchNorm2d(step), nn.ReLU(inplace=True)]
                width = step
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of each class, shape `(n, num_classes)`."""
        return self.fc(torch.flatten(self.pool(self.features(x)), 1))  # type: ignore[no-any-return]


class InvertedResidual(nn.Module):
    """The block of MobileNetV2: widen, look at each channel alone, narrow."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        width = expansion * in_channels
        self.adds = stride == 1 and in_channels == out_channels
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU6(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU6(inplace=True),
            nn.Conv2d(width, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's output to its input where both are of one shape."""
        return x + self.conv(x) if self.adds else self.conv(x)  # type: ignore[no-any-return]


class MobileNet(nn.Module):
    """A small MobileNetV2, after Sandler et al., 2018, arXiv 1801.04381."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, 24, 3, padding=1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU6(inplace=True),
        )
        blocks: list[nn.Module] = []
        width = 24
        for expansion, out_channels, count, stride in (
            (2, 24, 1, 1),
            (4, 32, 2, 2),
            (4, 48, 3, 1),
            (4, 64, 3, 2),
            (4, 96, 2, 1),
        ):
            for number in range(count):
                step = stride if number == 0 else 1
                blocks.append(InvertedResidual(width, out_channels, expansion, step))
                width = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.Conv2d(width, 384, 1, bias=False), nn.BatchNorm2d(384), nn.ReLU6(inplace=True)
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(384, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of each class, shape `(n, num_classes)`."""
        features = self.pool(self.head(self.blocks(self.stem(x))))
        return self.fc(torch.flatten(features, 1))  # type: ignore[no-any-return]


# each is made for a number of classes and of input channels
NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {
    "resnet20": resnet20,
    "vgg": VGG,
    "mobilenet": MobileNet,
}


def trained(name: str, task: Task, seed: int) -> nn.Module:
    """A network for a task, in eval mode; trained once, then read from the task's folder.

    Args:
        name: of `NETWORKS`.
        task: what it is trained for.
        seed: of its weights and its training images.
    """
    torch.manual_seed(seed)
    network = NETWORKS[name](task.classes, task.shape[0])
    file = task.folder / f"{name}_{seed}.safetensors"
    if file.exists():
        network.load_state_dict(load_file(file))
    else:
        _train(network, task, 0.1 if name == "mobilenet" else 0.2, seed)
        task.folder.mkdir(parents=True, exist_ok=True)
        save_file(network.state_dict(), file)
    return network.eval()


def _train(network: nn.Module, task: Task, rate: float, seed: int, batch: int = 128) -> None:
    """SGD with one cycle of the rate."""
    optimizer = torch.optim.SGD(
        network.parameters(), rate, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    steps = task.epochs * -(-task.epoch_length // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.25)
    network.train()
    for epoch in range(task.epochs):
        images, labels = task.training(seed, epoch)
        for x, y in zip(torch.split(images, batch), torch.split(labels, batch), strict=True):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(x), y, label_smoothing=0.05)
            loss.backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
            optimizer.step()
            schedule.step()
