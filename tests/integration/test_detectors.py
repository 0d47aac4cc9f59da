"""Detectors by their parts, as torchvision and people put them together."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import (
    ExtraFPNBlock,
    LastLevelMaxPool,
    LastLevelP6P7,
)

import prunecore


class Pyramid(nn.Module):
    """Maps of three sizes, by name, and torchvision's feature pyramid after them."""

    def __init__(self, extra: ExtraFPNBlock | None) -> None:
        super().__init__()
        widths = (8, 12, 16)
        self.body = nn.ModuleList(
            nn.Conv2d(before, width, 3, stride=2, padding=1)
            for before, width in zip((3, *widths), widths, strict=False)
        )
        self.fpn = FeaturePyramidNetwork(list(widths), 10, extra)
        self.head = nn.Conv2d(10, 4, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found = OrderedDict()
        for place, conv in enumerate(self.body):
            x = conv(x).relu()
            found[str(place)] = x
        return {name: self.head(level) for name, level in self.fpn(found).items()}


@pytest.mark.parametrize(
    "extra", [None, LastLevelMaxPool(), LastLevelP6P7(10, 10), LastLevelP6P7(16, 10)]
)
def test_the_feature_pyramid_of_torchvision(extra: ExtraFPNBlock | None) -> None:
    torch.manual_seed(0)
    small = prunecore.prune(Pyramid(extra), level=40, input_shape=(3, 32, 32))
    assert small.report["verified"]
    assert not small.report["left_whole"]
    assert "torchvision" not in small.source.partition('"""\n')[2]
    for size in (32, 48):
        sum(level.sum() for level in small.model(torch.rand(2, 3, size, size)).values()).backward()


class Output(OrderedDict[str, Tensor]):
    """What parts of networks of transformers return: its items are attributes."""

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Normalising(nn.Module):
    """Normalises over its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Output:
        x = self.conv(x)
        return Output(maps=x - x.mean(1, keepdim=True))


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = Normalising()

    def forward(self, x: Tensor) -> Output:
        return Output(decoded=self.layer(x).maps.relu())


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.decoder, self.head = nn.Conv2d(3, 8, 3), Decoder(), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.decoder(self.stem(x)).decoded)
        return logits


def test_the_reference_reads_items_as_attributes() -> None:
    small = prunecore.prune(Detector(), level=30, input_shape=(3, 12, 12))
    assert small.report["verified"]
