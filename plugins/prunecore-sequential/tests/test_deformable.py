"""Deformable convolution of torchvision: cut by what it reads and makes, its offsets whole."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import DeformConv2d, deform_conv2d

import prunecore
from prunecore_sequential import deformable


class Deformed(nn.Module):
    """A convolution at places that another one computes."""

    def __init__(self, parts: int = 1, masked: bool = True, **options: Any) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.offset = nn.Conv2d(16, 18 * parts, 3, padding=1)
        self.mask = nn.Conv2d(16, 9 * parts, 3, padding=1) if masked else None
        self.deformed = DeformConv2d(16, 16, 3, padding=1, **options)
        self.last = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        mask = None if self.mask is None else self.mask(x).sigmoid()
        return self.last(self.deformed(x, self.offset(x), mask).relu())


class Standardised(Deformed):
    """The function, with a weight that is computed."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        weight = self.deformed.weight
        weight = weight - weight.mean((1, 2, 3), keepdim=True)
        x = deform_conv2d(x, self.offset(x), weight, self.deformed.bias, padding=(1, 1))
        return self.last(x.relu())


@pytest.mark.parametrize(
    "net",
    [
        Deformed(),
        Deformed(bias=False),
        Deformed(masked=False),
        Deformed(groups=4),
        Deformed(groups=16),
        Deformed(parts=4),
        Deformed(parts=4, groups=2, bias=False),
        Deformed(parts=2, groups=8),
        Deformed(parts=4, groups=16, masked=False, bias=False),
        Standardised(masked=False),
    ],
)
def test_both_sides_of_a_deformable_convolution_are_cut(net: nn.Module) -> None:
    torch.manual_seed(0)
    small = prunecore.prune(net, level=40, input_shape=(3, 12, 12), mode="random")
    assert small.report["verified"]
    assert {each["layer"] for each in small.report["left_whole"]} <= {"offset", "mask"}
    assert small.report["kept"].keys() >= {"first.weight", "deformed.weight"}
    small.model(torch.rand(2, 3, 20, 20)).sum().backward()


def test_torchvision_is_not_imported_for_it() -> None:
    code = (
        "import sys, torch, prunecore; from torch import nn; "
        "prunecore.prune(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)), level=20, "
        "input_shape=(3, 4, 4)); assert 'torchvision' not in sys.modules; import torchvision; "
        "from prunecore.plugins.loading import load; "
        "assert torch.ops.torchvision.deform_conv2d in load().functions"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert torch.ops.torchvision.deform_conv2d in deformable.rules()
