"""Lists of modules that hold their children by names: the state dict keeps the names."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import prunecore


def named(kind: type[nn.ModuleList], *names: str) -> nn.ModuleList:
    """A list of convolutions, by names."""
    layers = kind()
    for name in names:
        layers.add_module(name, nn.Conv2d(6, 6, 1))
    return layers


class Pyramid(nn.Module):
    """Goes through a list of named layers, or through a part of it, and reads one by its name."""

    def __init__(self, layers: nn.ModuleList, parts: slice = slice(None)) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)
        self.layers, self.parts = layers, parts

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in list(self.layers)[self.parts]:
            x = layer(x).relu()
        x = self.layers.get_submodule(next(iter(self.layers._modules)))(x)
        logits: Tensor = self.head(x)
        return logits


class Levels(nn.ModuleList):
    """A list of the user's own."""


class Padded(nn.ModuleList):
    """One with more than a constructor of its own."""

    def __len__(self) -> int:
        return len(self._modules)


class Unfollowed(nn.Module):
    """Asks for values, and goes through named layers: it stays as it stands."""

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x) if x.sum().item() > 1e9 else x + layer(x)
        return x


class Holder(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.stem, self.middle = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1)
        self.inner, self.head = inner, nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.inner(self.middle(self.stem(x))))
        return logits


NAMES = [("p3", "p4", "p5", "p6"), ("0", "p4"), ("a b", "01", "class"), ("1" * 20,)]


@pytest.mark.parametrize("kind", [nn.ModuleList, Levels, Padded])
@pytest.mark.parametrize("names", NAMES)
def test_a_list_keeps_its_names(kind: type[nn.ModuleList], names: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    model = Pyramid(named(kind, *names))
    small = prunecore.prune(model, level=40, input_shape=(3, 8, 8))
    assert small.report["verified"]
    assert list(small.model.state_dict()) == list(model.state_dict())


def test_a_part_of_named_layers_is_gone_through() -> None:
    model = Pyramid(named(nn.ModuleList, "p3", "p4", "p5", "p6", "p7"), slice(1, 5))
    small = prunecore.prune(model, level=40, input_shape=(3, 8, 8))
    assert small.report["verified"]


@pytest.mark.parametrize("kind", [nn.ModuleList, Levels])
def test_what_stands_as_it_is_goes_through_named_layers(kind: type[nn.ModuleList]) -> None:
    model = Holder(Unfollowed(named(kind, "p3", "p4")))
    small = prunecore.prune(model, level=20, input_shape=(3, 8, 8))
    assert small.report["verified"]
    assert "inner.layers.p3.weight" in small.model.state_dict()
