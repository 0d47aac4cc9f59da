"""Learned tokens and positions: what a forward makes of parameters before others meet it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prunecore

WIDTH, SIZE = 16, 4


class Positions(nn.Module):
    """Adds positions to the places of a map."""

    def __init__(self, places: Callable[..., Tensor]) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, WIDTH, 1), nn.Linear(WIDTH, 2)
        self.rows = nn.Parameter(torch.rand(SIZE**2, WIDTH // 2))
        self.columns = nn.Parameter(torch.rand(SIZE**2, WIDTH // 2))
        self.places = places

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        places = self.places(self, *x.shape[2:])
        return self.head(x.flatten(2).permute(2, 0, 1) + places.unsqueeze(1))


def of_both(net: Any, height: int, width: int) -> Tensor:
    columns = net.columns[:width].unsqueeze(0).repeat(height, 1, 1)
    rows = net.rows[:height].unsqueeze(1).expand(-1, width, -1)
    return torch.cat([columns, rows], -1).flatten(0, 1)


PLACES: dict[str, Callable[..., Tensor]] = {
    "of rows and columns": of_both,
    "of two tables": lambda net, *_: torch.cat([net.rows, net.columns], -1),
    "of parts": lambda net, h, w: torch.cat([net.rows[: h * w], net.columns[: h * w]], 1),
}


class Block(nn.Module):
    def __init__(self, layer: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.layer, self.norm = layer, norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.layer(x))


class Tokens(nn.Module):
    """A block is given learned tokens, and others meet what it makes of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, WIDTH), nn.Linear(WIDTH, 2)
        self.tokens = nn.Parameter(torch.rand(1, 7, WIDTH))
        self.block = Block(nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.block(self.tokens.expand(x.shape[0], -1, -1))
        return self.head(self.stem(x) + tokens.mean(1, keepdim=True))


class Table(nn.Module):
    """The weight of an embedding is used as it is."""

    def __init__(self, use: Callable[..., Tensor]) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, WIDTH), nn.Linear(WIDTH, 2)
        self.table, self.layer = nn.Embedding(7, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.use = use

    def forward(self, x: Tensor) -> Tensor:
        y = self.use(self, x, self.table.weight)
        return self.head(self.stem(x) + self.layer(self.stem(x) + y))


TABLES: dict[str, Callable[..., Tensor]] = {
    "as it is": lambda net, x, table: table,
    "for each input": lambda net, x, table: table.unsqueeze(0).repeat(x.shape[0], 1, 1),
    "expanded": lambda net, x, table: table[None].expand(x.size(0), -1, -1),
    "given to a layer": lambda net, x, table: net.layer(table.unsqueeze(0).repeat(len(x), 1, 1)),
}


class Map(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, WIDTH, 1), nn.Conv2d(WIDTH, 2, 1)
        self.map = nn.Parameter(torch.rand(1, WIDTH, SIZE, SIZE))
        self.block = Block(nn.Conv2d(WIDTH, WIDTH, 1), nn.BatchNorm2d(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x) + self.block(self.map * 0.5))


class Detector(nn.Module):
    """In the manner of the DETR that its paper prints."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 12, 3, stride=2, padding=1)
        self.conv = nn.Conv2d(12, WIDTH, 1)
        self.transformer = nn.Transformer(WIDTH, 4, 1, 1, 24, batch_first=True)
        self.classes, self.boxes = nn.Linear(WIDTH, 5), nn.Linear(WIDTH, 4)
        self.query = nn.Parameter(torch.rand(10, WIDTH))
        self.rows = nn.Parameter(torch.rand(50, WIDTH // 2))
        self.columns = nn.Parameter(torch.rand(50, WIDTH // 2))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.conv(self.backbone(x))
        places = of_both(self, *x.shape[-2:]).unsqueeze(0)
        queries = self.query.unsqueeze(0).repeat(x.shape[0], 1, 1)
        tokens = 0.1 * x.flatten(2).permute(0, 2, 1)
        x = self.transformer(places + tokens, queries)
        return {"classes": self.classes(x), "boxes": self.boxes(x).sigmoid()}


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **{f"positions {name}": lambda p=places: Positions(p) for name, places in PLACES.items()},
    **{f"table {name}": lambda u=use: Table(u) for name, use in TABLES.items()},
    "tokens": Tokens,
    "map": Map,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_go_from_what_is_learned(name: str) -> None:
    torch.manual_seed(0)
    shape = (7, 3) if name.startswith(("tokens", "table")) else (3, SIZE, SIZE)
    small = prunecore.prune(NETWORKS[name](), level=40, input_shape=shape, mode="random")
    assert small.report["verified"]["max_relative_difference"] <= 1e-9
    assert small.report["left_whole"] == []
    assert small.report["level"]["achieved"] > 30


def test_a_norm_whose_weight_alone_is_used_keeps_what_meets_it() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Linear(3, WIDTH), nn.Linear(WIDTH, 2)
            self.norm, self.free = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.free(self.stem(x) * self.norm.weight))

    report = prunecore.prune(Scaled(), level=20, input_shape=(7, 3)).report
    assert report["verified"]
    assert {"layer": "stem", "reason": "only the weight of norm is used"} in report["left_whole"]


def test_queries_that_are_learned_go_with_the_transformer_s_width() -> None:
    torch.manual_seed(0)
    small = prunecore.prune(Detector(), level=40, input_shape=(3, 8, 12), mode="random")
    assert small.report["verified"]["max_relative_difference"] <= 1e-9
    assert small.report["left_whole"] == []
    width = small.model.conv.out_channels
    assert width < WIDTH
    assert small.model.query.shape == (10, width)
    assert small.model(torch.randn(3, 3, 16, 8))["boxes"].shape == (3, 10, 4)
