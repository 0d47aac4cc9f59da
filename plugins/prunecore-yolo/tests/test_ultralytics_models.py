"""A pruned network goes back into a network of ultralytics, here into one that is made as those."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prunecore
from prunecore_yolo import graft


class Conv(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class Concat(nn.Module):
    def forward(self, x: list[Tensor]) -> Tensor:
        return torch.cat([nn.functional.interpolate(x[0], x[1].shape[2:]), x[1]], 1)


class Head(nn.Module):
    """Knows what no other layer does: its classes."""

    def __init__(self, classes: int, channels: list[int]) -> None:
        super().__init__()
        self.nc = classes
        self.cv2 = nn.ModuleList(nn.Conv2d(c, classes, 1) for c in channels)

    def forward(self, x: list[Tensor]) -> Tensor:
        maps = [layer(y).flatten(2) for layer, y in zip(self.cv2, x, strict=True)]
        return torch.cat(maps, 2)


class Network(nn.Module):
    """Its layers say themselves what their inputs are."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[Any] = [Conv(3, 16), Conv(16, 32), Concat(), Conv(48, 24), Head(4, [24, 48])]
        for place, (layer, source) in enumerate(
            zip(layers, [-1, -1, [1, 0], -1, [3, 2]], strict=True)
        ):
            layer.i, layer.f, layer.type = place, source, type(layer).__name__
        self.model = nn.Sequential(*layers)
        self.criterion: Any = "that of the last training"

    def forward(self, x: Tensor) -> Tensor:
        y: list[Tensor] = []
        for layer in self.model:
            source: Any = layer.f
            if source != -1:
                x = y[source] if isinstance(source, int) else [y[j] for j in source]  # type: ignore[assignment]
            x = layer(x)
            y.append(x)
        return x


def test_a_pruned_network_goes_back_into_its_original(varied: Any, check_alone: Any) -> None:
    net = varied(Network())
    small = prunecore.prune(net, level=50, input_shape=(3, 32, 32))
    check_alone(small, (3, 32, 32))
    before = net.state_dict(keep_vars=True)
    grafted = graft(net, small.model).eval()
    x = torch.rand(2, 3, 64, 32)
    assert torch.equal(grafted(x), small.model.eval()(x))
    assert isinstance(grafted, Network)
    assert isinstance(grafted.model[-1], Head)
    assert grafted.model[-1].nc == 4
    assert grafted.criterion is None
    assert grafted.model[0].np == sum(p.numel() for p in small.model.model[0].parameters())
    assert all(tensor is before[name] for name, tensor in net.state_dict(keep_vars=True).items())
    assert net.model[0].conv.out_channels == 16


def test_what_was_pruned_of_another_network_is_refused() -> None:
    net, other = Network(), Network()
    other.model = other.model[:3]
    with pytest.raises(prunecore.PrunecoreError, match="has 3 layers, and the original has 5"):
        graft(net, other)
    with pytest.raises(prunecore.PrunecoreError, match=r"Give yolo\.model and small\.model"):
        graft(nn.Linear(2, 2), net)
