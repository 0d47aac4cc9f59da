"""Values that a network holds as attributes of its own are written as what they are."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Mode(str, enum.Enum):
    NEAREST = "nearest"


class Axis(enum.IntEnum):
    CHANNELS = 1
    WIDTH = 3


class Net(nn.Module):
    """Layers, and between them a function of a value that the network holds."""

    def __init__(self, function: Callable[[Tensor, Any], Tensor], value: Any) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)
        self.function, self.value = function, value

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(self.function(x, self.value))


CPU = torch.device("cpu")
WRITTEN = [
    (lambda x, v: x + torch.ones(1, dtype=v), torch.float64, "dtype=torch.float64"),
    (lambda x, v: x.contiguous(memory_format=v), torch.channels_last, "=torch.channels_last"),
    (lambda x, v: F.interpolate(x, size=v), torch.Size([6, 6]), "size=(6, 6)"),
    (lambda x, v: F.interpolate(x, scale_factor=2.0, mode=v), Mode.NEAREST, "scale_factor=2.0"),
    (lambda x, v: F.interpolate(x, size=(2, 2), mode=v.value), Mode.NEAREST, "size=(2, 2)"),
    (lambda x, v: x.roll(1, v), Axis.WIDTH, ".roll(1, 3)"),
    (lambda x, v: F.interpolate(x, size=v, scale_factor=2.0), None, "first(x), scale_factor=2.0"),
    (lambda x, v: x[:, :, v], slice(1, 3), "[:, :, 1:3]"),
    (lambda x, v: x[:, :, v], range(1, 3), "[:, :, [1, 2]]"),
    (lambda x, v: x[v], (..., slice(1, 3)), "[..., 1:3]"),
    (lambda x, v: x * v, np.float64(1.23456789), " * 1.23456789"),
    (lambda x, v: v * x, np.float64(0.25), "0.25 * "),
    (lambda x, v: x * v, np.float32(0.25), " * 0.25"),
    (lambda x, v: v * x, np.float32(0.25), "0.25 * "),
    (lambda x, v: x.roll(v, 2), np.int64(3), ".roll(3, 2)"),
    (lambda x, v: F.pad(x, (0, v)), np.int64(3), "(0, 3)"),
    (lambda x, v: F.interpolate(x, size=tuple(v)), np.array([6, 6]), "size=(6, 6)"),
    (lambda x, v: x.clamp(max=v), float("inf"), ".clamp(max=self.value)"),
    (lambda x, v: x.clamp(*v), [-0.5, float("inf")], '.clamp(-0.5, float("inf"))'),
    (lambda x, v: x.clamp(min=torch.finfo(v).min / 1e38), torch.float32, ".clamp(min=-3.4"),
]


@pytest.mark.parametrize(("function", "value", "text"), WRITTEN)
def test_a_held_value_is_written_as_what_it_is(
    cut: Callable[..., Any], function: Callable[..., Tensor], value: Any, text: str
) -> None:
    assert text in cut(Net(function, value), 3, 4, 4).text


def test_a_device_is_that_of_what_the_network_is_given(cut: Callable[..., Any]) -> None:
    result = cut(Net(lambda x, v: x + torch.ones(1, device=v), CPU), 3, 4, 4)
    assert result.forward == (
        "x = self.first(x) + torch.ones(1, device=x.device)\nreturn self.last(x)"
    )


MOVES = [
    (lambda x, v: x.to(v), CPU),
    (lambda x, v: x.to(device=v, non_blocking=True), CPU),
    (lambda x, v: x.to(v) if x.device != v else x, CPU),
    (lambda x, v: x if x.device == v else x.to(v), CPU),
]


@pytest.mark.parametrize(("move", "value"), MOVES)
def test_a_move_to_where_all_tensors_are_is_not_written(
    cut: Callable[..., Any], move: Callable[..., Tensor], value: Any
) -> None:
    result = cut(Net(move, value), 3, 4, 4)
    assert result.forward == "x = self.first(x)\nreturn self.last(x)"


def test_a_move_that_casts_is_still_a_cast(cut: Callable[..., Any]) -> None:
    result = cut(Net(lambda x, v: x.to(v, torch.float64), CPU), 3, 4, 4)
    assert "self.first(x).to(torch.float64)" in result.forward


class OfParameters(Net):
    """Asks its parameters where they are."""

    def forward(self, x: Tensor) -> Tensor:
        device = next(self.parameters()).device
        b, _, h, w = x.to(device).shape
        x = self.first(x) + torch.zeros(1, device=device)
        return self.last(x.view(b, -1, h * w).view(b, -1, h, w))


def test_the_device_of_parameters_is_asked_of_them(cut: Callable[..., Any]) -> None:
    forward = cut(OfParameters(torch.relu, None), 3, 4, 4).forward
    assert "device = self.first.weight.device" in forward
    assert "x.to(device)" in forward
    assert "torch.zeros(1, device=device)" in forward


class Moving(Net):
    """Takes an input from anywhere, as its callers rely on, and moves a buffer to it."""

    def __init__(self) -> None:
        super().__init__(torch.relu, None)
        self.register_buffer("offset", torch.rand(1, 8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.to(self.last.weight.device))
        return self.last(x.to(x.device) + self.offset.to(self.last.weight.device).to(x.device))


def test_a_move_between_inputs_and_parameters_is_written(cut: Callable[..., Any]) -> None:
    forward = cut(Moving(), 3, 4, 4).forward
    assert [line for line in forward.splitlines() if ".to(" in line] == [
        "x = x.to(self.last.weight.device)",
        "x = x + self.offset.to(x.device)",
    ]


class TypeOfParameters(Net):
    """Asks its parameters of which type they are; a written one may be cast as this may."""

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x.to(next(self.parameters()).dtype)))


def test_the_type_of_parameters_is_no_constant(cut: Callable[..., Any]) -> None:
    result = cut(TypeOfParameters(torch.relu, None), 3, 4, 4)
    assert "x.to(self.first.weight.dtype)" in result.forward
    assert result.small.float()(torch.rand(1, 3, 4, 4)).dtype is torch.float32


class Offset(nn.Module):
    """Has no tensors that would tell where it is."""

    def __init__(self) -> None:
        super().__init__()
        self.device = CPU

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.ones(1, device=self.device)


def test_a_device_without_tensors_on_it_is_written_by_its_name(cut: Callable[..., Any]) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 1), Offset(), nn.Conv2d(8, 2, 1))
    assert 'x + torch.ones(1, device=torch.device("cpu"))' in cut(net, 3, 4, 4).text


def test_sizes_of_what_is_made_on_a_device_are_known(cut: Callable[..., Any]) -> None:
    def grow(x: Tensor, device: torch.device) -> Tensor:
        x = x + torch.zeros(1, 1, 4, 4, device=device)
        return x if x.shape[-1] == 4 else x * 2

    assert "if x.shape[-1] != 4:\n    x = x * 2\n" in cut(Net(grow, CPU), 3, 4, 4).forward
