"""Detectors by their parts, as torchvision and people put them together."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

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


class Heads(nn.Module):
    """One head for maps of several widths, and a number from what else it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.ModuleList([nn.Conv2d(8, 16, 1), nn.Conv2d(12, 16, 1)])
        self.last = nn.Conv2d(16, 4, 1)

    def forward(self, maps: Any, boxes: Any = None) -> Any:
        items = maps.items() if isinstance(maps, dict) else enumerate(maps)
        made = {
            key: self.last(torch.relu(enter(x)))
            for (key, x), enter in zip(items, self.enter, strict=True)
        }
        if boxes is not None:
            made = {key: x + boxes["all"][0].mean() for key, x in made.items()}
        return made if isinstance(maps, dict) else list(made.values())


MAPS = torch.rand(2, 8, 4, 4), torch.rand(2, 12, 2, 2)
BOXES = {"all": (torch.rand(2, 3), torch.rand(2, 3))}
GIVEN: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "a list": (([*MAPS],), {}),
    "a tuple": ((MAPS,), {}),
    "a dictionary": ((dict(zip("ab", MAPS, strict=True)),), {}),
    "of several levels": (([*MAPS], BOXES), {}),
    "by name": (([*MAPS],), {"boxes": BOXES}),
}


@pytest.mark.parametrize(("given", "named"), GIVEN.values(), ids=GIVEN)
def test_a_head_that_is_given_several_maps_at_once(
    given: tuple[Any, ...], named: dict[str, Any], tmp_path: Path
) -> None:
    model = Heads()
    small = prunecore.prune(model, given, 40, example_kwargs=named)
    assert small.report["left_whole"] == []
    file, *_ = small.save(tmp_path / "heads_40.py")
    assert prunecore.verify(file, model).inputs  # of what the report tells of the inputs
    assert type(small.model(*given, **named)) is type(model(*given, **named))
