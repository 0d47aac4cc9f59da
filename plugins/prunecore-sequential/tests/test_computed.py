"""Weights that a forward computes: cut where each channel of them shows, else left whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import prunecore

WIDTH = 8
Weight = Callable[[Any], Tensor]


class Computing(nn.Conv2d):
    """A convolution by what is computed of its weight, a gain and another weight."""

    def __init__(self, weight: Weight, groups: int = 1) -> None:
        super().__init__(WIDTH, WIDTH, 3, groups=groups)
        self.gain = nn.Parameter(torch.rand(WIDTH, 1, 1, 1) + 0.5)
        self.other = nn.Parameter(torch.rand_like(self.weight))
        self.computed = weight

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.computed(self), self.bias, groups=self.groups)


def net(layer: nn.Module) -> nn.Sequential:
    """The layer reads what is not zero where a channel is gone, and is read likewise."""
    return nn.Sequential(
        nn.Conv2d(3, WIDTH, 3),
        nn.Sigmoid(),
        layer,
        nn.Sigmoid(),
        nn.Conv2d(WIDTH, WIDTH, 1),
        nn.Conv2d(WIDTH, 4, 1),
    )


def by_batch_norm(layer: Any) -> Tensor:
    rows = layer.weight.reshape(1, layer.out_channels, -1)
    gain = (layer.gain * 0.3).view(-1)
    return F.batch_norm(rows, None, None, gain, training=True).reshape_as(layer.weight)


def standardised(layer: Any) -> Tensor:
    mean = layer.weight.mean((1, 2, 3), keepdim=True)
    var = layer.weight.var((1, 2, 3), keepdim=True)
    return (layer.weight - mean) / torch.sqrt(var + 1e-5)


def demodulated(layer: Any) -> Tensor:
    norm = layer.weight.pow(2).sum((1, 2, 3), keepdim=True)
    return layer.weight * torch.rsqrt(norm + 1e-6)


def flattened(layer: Any) -> Tensor:
    weight = layer.weight - layer.weight.mean(dim=(1, 2, 3), keepdim=True)
    std = weight.view(weight.size(0), -1).std(dim=1).view(-1, 1, 1, 1) + 1e-5
    return weight / std.expand_as(weight)


def one_axis_at_a_time(layer: Any) -> Tensor:
    mean = layer.weight.mean(1, keepdim=True).mean(2, keepdim=True).mean(3, keepdim=True)
    weight = layer.weight - mean
    return weight / (weight.reshape(weight.shape[0], -1).std(1).reshape(-1, 1, 1, 1) + 1e-5)


def std_and_mean(layer: Any) -> Tensor:
    std, mean = torch.std_mean(layer.weight, dim=[1, 2, 3], keepdim=True, unbiased=False)
    return (layer.weight - mean) / (std + 1e-5)


def var_and_mean_of_rows(layer: Any) -> Tensor:
    var, mean = torch.var_mean(layer.weight.flatten(1), dim=1)
    scale = torch.rsqrt(var + 1e-5) * layer.gain.flatten()
    return (layer.weight - mean[:, None, None, None]) * scale[:, None, None, None]


def of_unit_norm(layer: Any) -> Tensor:
    return F.normalize(layer.weight.flatten(1), dim=1).view_as(layer.weight)


COMPUTED: dict[str, Weight] = {
    "scaled": lambda layer: layer.weight * 0.5,
    "by a gain": lambda layer: layer.gain * layer.weight,
    "by another weight": lambda layer: layer.weight * torch.sigmoid(layer.other),
    "centred": lambda layer: layer.weight - layer.weight.mean((1, 2, 3), keepdim=True),
    "standardised": standardised,
    "standardised, flattened": flattened,
    "standardised, an axis at a time": one_axis_at_a_time,
    "standardised by std_mean": std_and_mean,
    "standardised by var_mean": var_and_mean_of_rows,
    "of unit norm": of_unit_norm,
    "standardised by batch norm": by_batch_norm,
    "demodulated": demodulated,
}


@pytest.mark.parametrize("groups", [1, 2, WIDTH])
@pytest.mark.parametrize("name", COMPUTED)
def test_a_computed_weight_is_cut(name: str, groups: int) -> None:
    torch.manual_seed(0)
    model = net(Computing(COMPUTED[name], groups))
    small = prunecore.prune(model, level=40, input_shape=(3, 8, 8), mode="random")
    assert not {"0", "2"} & {one["layer"] for one in small.report["left_whole"]}
    places = small.report["kept"]["2.weight"]
    assert any(kept is not None and len(kept) < WIDTH for kept in places)


COUNTED: dict[str, Weight] = {
    "of a size": lambda layer: layer.weight / layer.weight.size(1),
    "of an item of the shape": lambda layer: layer.weight * layer.weight.shape[1] ** -0.5,
    "of a number of places": lambda layer: layer.weight * layer.weight[0].numel() ** -0.5,
    "of what is computed": lambda layer: layer.weight / (layer.weight * 2).flatten(1).size(1),
}


@pytest.mark.parametrize("name", COUNTED)
def test_what_a_weight_is_scaled_by_stays_what_it_was(name: str) -> None:
    torch.manual_seed(0)
    model = net(Computing(COUNTED[name]))
    small = prunecore.prune(model, level=20, input_shape=(3, 8, 8), mode="random")
    filters, columns, *_ = small.report["kept"]["2.weight"]
    assert len(filters) < WIDTH
    assert len(columns) < WIDTH


WHOLE: dict[str, Weight] = {
    "summed up": lambda layer: layer.weight.cumsum(0),
    "turned": lambda layer: layer.weight.flip(0).cumsum(1),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_weight_that_does_not_show_its_channels_is_left_whole(name: str) -> None:
    model = net(Computing(WHOLE[name]))
    small = prunecore.prune(model, level=2, input_shape=(3, 8, 8), mode="random")
    reasons = {one["layer"]: one["reason"] for one in small.report["left_whole"]}
    why = "its weight is computed in a way that does not show what each channel of it is"
    assert (reasons["0"], reasons["2"]) == (why, why)


def test_a_computed_linear_layer_is_cut() -> None:
    class Normed(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, F.normalize(self.weight, dim=1), self.bias)

    model = nn.Sequential(
        nn.Linear(3, 8), nn.Sigmoid(), Normed(8, 8), nn.Sigmoid(), nn.Linear(8, 4)
    )
    small = prunecore.prune(model, level=40, input_shape=(3,), mode="random")
    assert all(len(kept) < 8 for kept in small.report["kept"]["2.weight"])
