"""Modules that cannot be traced: they stay whole, and are written as they stand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunecore.errors import UnsupportedError, UnwritableError
from prunecore.writing.as_it_stands.standing import torch_call
from prunecore.writing.text import one_line

SIZE = 4
FLOOR = {"low": 0.01}


def low(x: Tensor) -> bool:
    return bool(x.abs().max() < FLOOR["low"])


class Hurried(nn.Module):
    """Skips its work for inputs that have no signal."""

    factor = 2.0

    def __init__(self, width: int, power: float = 1.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 1)
        self.gain = nn.Parameter(torch.ones(width))
        self.register_buffer("shift", torch.zeros(width))
        self.power = power
        self.activation = F.relu
        self.unread = object()

    @property
    def scale(self) -> Tensor:
        return self.gain * self.factor

    def forward(self, x: Tensor) -> Tensor:
        if low(x):
            return x
        return self._work(x) + self.shift.view(1, -1, 1, 1)

    def _work(self, x: Tensor) -> Tensor:
        x = self.activation(self.conv(x)) + math.pi
        return self.scale.view(1, -1, 1, 1) * x**self.power


class Around(nn.Module):
    """A module that cannot be traced, between layers that may be cut."""

    def __init__(self, inner: nn.Module, *others: nn.Module) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 8, 1)
        self.reaching = nn.Conv2d(8, 8, 1)
        self.inner = inner
        self.others = nn.Sequential(*others)
        self.after = nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.others(self.inner(self.reaching(self.before(x))))
        return self.last(self.after(x))


def test_its_methods_stand_in_the_file_with_what_they_read(cut: Callable[..., Any]) -> None:
    result = cut(Around(Hurried(8)), 3, SIZE, SIZE, strict=False)
    assert result.dependencies.left_whole["reaching"] == "inner (Hurried) is not understood"
    assert "its forward cannot be traced" in result.dependencies.left_whole["inner"]
    assert result.dependencies.left_out == ()
    assert 'FLOOR = {"low": 0.01}\n\n\ndef low(x: Tensor) -> bool:' in result.text
    assert "self.activation = F.relu\n" in result.text
    assert "unread" not in result.text
    assert result.small.reaching.out_channels == result.small.inner.conv.out_channels == 8
    assert max(result.small.before.out_channels, result.small.after.out_channels) < 8
    nothing = torch.zeros(1, 8, 2, 2, dtype=torch.float64)
    assert result.small.inner(nothing) is nothing


def test_what_differs_between_instances_is_an_argument(cut: Callable[..., Any]) -> None:
    model = Around(Hurried(8), Hurried(8, 2.0), Hurried(8, 2.0))
    text = cut(model, 3, SIZE, SIZE, strict=False).text
    assert text.count("class Hurried") == 1
    assert "Hurried(power=2.0)" in text or "Hurried(2.0)" in text


def test_it_is_refused_where_all_is_to_be_understood(find: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedError, match=r"through inner \(Hurried\): its forward cannot"):
        find(Around(Hurried(8)), (2, 3, SIZE, SIZE))


class Nested(nn.Module):
    """Holds what cannot be traced, either, in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Hurried(8), Hurried(8)])
        self.none = None

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x) if x.sum() != 0 else x
        return x


class Listing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gains = nn.ParameterList([nn.Parameter(torch.rand(8, 1, 1)) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        return x if low(x) else self.gains[1] * x


class Stack(nn.ModuleList):
    def forward(self, x: Tensor) -> Tensor:
        return x if low(x) else self[1](self[0](x))


class Halved(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return x if low(x) else super().forward(x) / 2


class Calling(Hurried):
    """Calls the methods of the class that it derives from."""

    def forward(self, x: Tensor) -> Tensor:
        return x if low(x) else super().forward(x) + super(Calling, self)._work(x)  # noqa: UP008

    def _work(self, x: Tensor) -> Tensor:
        return super()._work(x) / 2


@pytest.mark.parametrize(
    "inner",
    [
        Nested(),
        Listing(),
        Stack([nn.Conv2d(8, 8, 1), nn.ReLU()]),
        Halved(8, 8, 3, padding=1),
        Calling(8),
    ],
    ids=lambda one: type(one).__name__,
)
def test_what_it_holds_and_derives_from_is_written_too(
    cut: Callable[..., Any], inner: nn.Module
) -> None:
    result = cut(Around(inner), 3, SIZE, SIZE, strict=False)
    assert "inner" in result.dependencies.left_whole
    base = type(inner).__mro__[1]
    assert isinstance(result.small.inner, base) or base is Hurried


class Splitting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.inner = nn.Conv2d(3, 8, 1), Halves()
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.inner(self.before(x))
        return self.last(first + second)


class Halves(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x, x) if low(x) else (x / 2, x)


def test_what_it_returns_is_taken_apart(cut: Callable[..., Any]) -> None:
    result = cut(Splitting(), 3, SIZE, SIZE, strict=False)
    assert result.dependencies.left_whole["before"] == "inner (Halves) is not understood"


class WithArray(Hurried):
    def forward(self, x: Tensor) -> Tensor:
        return x if low(x) else x * float(np.mean([1, 2]))


class Asking(Hurried):
    def forward(self, x: Tensor) -> Tensor:
        return x if low(x) else x * super().scale.view(1, -1, 1, 1)


class WithObject(Hurried):
    def forward(self, x: Tensor) -> Tensor:
        return x if low(x) or self.unread is None else x / 2


@pytest.mark.parametrize(
    ("inner", "reason"),
    [
        (WithArray(8), "forward uses np, and a written file has torch and the standard library"),
        (WithObject(8), "its attribute unread is an object, which no file can state"),
        (Asking(8), "its method forward asks for scale of Hurried"),
    ],
    ids=["array", "object", "super"],
)
def test_what_no_file_can_have_is_refused_with_both_reasons(
    cut: Callable[..., Any], inner: nn.Module, reason: str
) -> None:
    with pytest.raises(UnsupportedError, match="its forward cannot be traced: ") as caught:
        cut(Around(inner), 3, SIZE, SIZE, strict=False)
    assert f"and it cannot be written as it stands: {reason}" in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (nn.LSTM(3, 4, 2, bidirectional=True), "nn.LSTM(3, 4, num_layers=2, bidirectional=True)"),
        (nn.GRU(3, 4, bias=False), "nn.GRU(3, 4, bias=False)"),
        (nn.RNN(3, 4, nonlinearity="relu"), 'nn.RNN(3, 4, nonlinearity="relu")'),
        (nn.RNN(3, 4), "nn.RNN(3, 4)"),
        (nn.LSTMCell(3, 4, bias=False), "nn.LSTMCell(3, 4, bias=False)"),
        (
            nn.MultiheadAttention(8, 2, bias=False, add_bias_kv=True),
            "nn.MultiheadAttention(8, 2, bias=False, add_bias_kv=True)",
        ),
        (nn.PairwiseDistance(1.0), "nn.PairwiseDistance(p=1.0)"),
        (nn.EmbeddingBag(10, 3, mode="sum"), 'nn.EmbeddingBag(10, 3, mode="sum")'),
        (nn.Conv2d(3, 4, 3, padding=(1, 0)), "nn.Conv2d(3, 4, 3, padding=(1, 0))"),
        (
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
            "nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_layer_of_torch_s_is_the_call_that_makes_it(layer: nn.Module, text: str) -> None:
    assert one_line(torch_call(layer, type(layer))) == text


@pytest.mark.parametrize(
    "layer",
    [
        nn.TransformerEncoderLayer(8, 2, 16, activation=torch.tanh),
        nn.TransformerEncoderLayer(8, 2, 16, activation=nn.Tanh()),
        nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5]),
    ],
    ids=["function", "module", "lists"],
)
def test_a_call_that_would_make_another_layer_is_refused(layer: nn.Module) -> None:
    with pytest.raises(UnwritableError, match="what its constructor was given cannot be read off"):
        torch_call(layer, type(layer))
