"""Concatenations where little is left: what reads them must find its inputs in their order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models import GoogLeNet
from torchvision.models.googlenet import BasicConv2d, Inception
from torchvision.models.inception import InceptionB, InceptionD, InceptionE

import prunecore
from prunecore_googlenet import inception

WIDTHS = (24, 12, 24, 12, 12, 10)  # of an Inception's convolutions


def conv(in_channels: int, out_channels: int, kernel_size: int = 1) -> BasicConv2d:
    return BasicConv2d(in_channels, out_channels, kernel_size=kernel_size, padding=kernel_size // 2)


@inception(convs=["a", "b", "c", "d"])
class Nested(nn.Module):
    """Concatenations of concatenations, of what passes by, and of one tensor twice."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.a = conv(in_channels, width)
        self.b = conv(width, width + 3, 3)
        self.c = conv(2 * width + 3, width)
        self.d = conv(in_channels, width - 2)
        self.norm = nn.BatchNorm2d(5 * width + 1 + in_channels)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        inner = torch.cat([self.b(a), a], 1)
        middle = torch.cat([self.d(x), inner, self.c(inner)], 1)
        return self.norm(torch.cat([a, middle, x], 1))


@inception(convs=["left", "right"])
class Summed(nn.Module):
    """Two concatenations that meet with their seams at different places."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.left = conv(in_channels, width)
        self.right = conv(in_channels, 2 * width)
        self.depthwise = nn.Conv2d(3 * width, 3 * width, 3, padding=1, groups=3 * width)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.left(x), self.right(x)
        return self.depthwise(torch.cat([left, right], 1) + torch.cat([right, left], 1))


@inception(convs=["a", "b"])
class Turned(nn.Module):
    """Two tensors concatenated in both orders, then flattened."""

    def __init__(self, in_channels: int, width: int, size: int) -> None:
        super().__init__()
        self.a = conv(in_channels, width)
        self.b = conv(in_channels, width + 2)
        self.c = conv(2 * width + 2, width, 3)
        self.fc = nn.Linear((3 * width + 2) * size**2, 12)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        c = self.c(torch.cat([b, a], 1))
        return self.fc(torch.flatten(torch.cat([c, torch.cat([a, b], 1)], 1), 1))


def with_head(width: int, *blocks: nn.Module) -> nn.Module:
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]
    return nn.Sequential(conv(3, 16, 3), *blocks, *head)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "nested": lambda: with_head(158, Nested(16, 12), Nested(77, 16)),
    "summed": lambda: with_head(96, Summed(16, 24), Summed(72, 32)),
    "turned": lambda: nn.Sequential(conv(3, 16, 3), Turned(16, 24, 12), nn.Linear(12, 10)),
    "passed": lambda: with_head(
        70, Inception(16, 16, 12, 24, 8, 12, 10), InceptionB(62), Inception(542, *WIDTHS)
    ),
    "reduced": lambda: with_head(2048, InceptionD(16), InceptionE(528)),
    "googlenet": lambda: GoogLeNet(num_classes=10, init_weights=False),
}


@pytest.mark.parametrize("mode", ["random", "l1-norm"])
@pytest.mark.parametrize("level", [80, 88, 95])
@pytest.mark.parametrize("name", ["nested", "summed", "turned", "passed", "reduced"])
def test_concatenations_are_exact_where_little_is_left(name, level, mode, varied, check):
    model = varied(NETWORKS[name]())
    small = prunecore.prune(model, level=level, input_shape=(3, 12, 12), mode=mode, name="net")
    assert abs(small.report["level"]["achieved"] - level) < 4  # a channel may be that large
    check(model, small, (3, 12, 12))


# What reads a concatenation with its inputs in another order computes something else; so does a
# branch that makes its channels in another order.
@pytest.mark.parametrize("mode", ["random", "l1-norm"])
@pytest.mark.parametrize(
    ("network", "name", "axis"),
    [
        ("nested", "1.c.conv", 1),  # after the inner concatenation
        ("summed", "2.right.conv", 1),
        ("turned", "1.fc", 1),
        ("passed", "2.branch3x3.conv", 1),
        ("passed", "3.branch4.1.conv", 1),  # after one with pooled channels that pass by
        ("reduced", "2.branch3x3dbl_1.conv", 1),
        ("reduced", "2.branch3x3_2a.conv", 0),
        ("reduced", "5", 1),  # after two within one
        ("googlenet", "fc", 1),
    ],
)
def test_channels_out_of_order_are_found(network, name, axis, mode, varied, tmp_path: Path):
    model = varied(NETWORKS[network]())
    shape, file = (3, 12, 12) if network != "googlenet" else (3, 32, 32), tmp_path / "net.py"
    prunecore.prune(model, level=85, input_shape=shape, mode=mode, name="net", verify=False).save(
        file
    )

    weights = load_file(file.with_suffix(".safetensors"))
    weight = weights[f"{name}.weight"]
    assert weight.shape[axis] > 1
    weights[f"{name}.weight"] = weight.roll(1, dims=axis).contiguous()
    save_file(weights, file.with_suffix(".safetensors"))
    with pytest.raises(prunecore.VerificationError, match=rf"first at {name}\b"):
        prunecore.verify(file, model, input_shape=shape)
