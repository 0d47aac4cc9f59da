"""What a forward makes of sizes, with Python's and NumPy's functions, is right at other sizes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunecore.tracing.guards import GUARD
from prunecore.tracing.source_lines import _only_called

from ...conftest import check_outputs, masked


class Net(nn.Module):
    """A function of a map between two layers."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Linear(6, 2)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)).mean((2, 3)))


def as_square(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    side = int(math.sqrt(h * w))
    return x.flatten(2)[:, :, : side * side].view(n, c, side, side)


def in_windows(x: Tensor) -> Tensor:
    x = x[:, :, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]
    n, c, h, w = x.shape
    parts = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)
    count = int(parts.shape[0] / (h * w / 4))
    return parts.softmax(1).view(count, -1, 4, c).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda x: x[:, :, : int(x.shape[2] * 0.6)], "int(x.shape[2] * 0.6)"),
        (lambda x: x[:, :, : round(x.size(2) / 3)], "round(x.size(2) / 3)"),
        (lambda x: x / float(x.shape[2]), "float(x.shape[2])"),
        (lambda x: F.interpolate(x, size=int(np.ceil(x.shape[2] / 2))), "math.ceil("),
        (lambda x: F.interpolate(x, size=int(np.float64(0.5) * x.shape[2])), "int(0.5 * "),
        (lambda x: F.adaptive_avg_pool2d(x, max(x.shape[2], x.shape[3])), "max(x.shape[2], x.sh"),
        (lambda x: F.adaptive_avg_pool2d(x, min(x.shape[2:])), "min(h, w)"),
        (lambda x: F.adaptive_avg_pool2d(x, max(3, *x.shape[2:])), "max(3, h, w)"),
        (
            lambda x: x + x.new_ones(torch.Size([1, x.shape[2], 1])),
            "x.new_ones((1, x.shape[2], 1))",
        ),
        (lambda x: x.view(torch.Size(x.shape)), "x.view("),
        (lambda x: x.flatten(2).view(x.shape[:2] + torch.Size([x.shape[2], -1])), "x.shape[2]"),
        (lambda x: x if isinstance(torch.Size([x.shape[0]]), list) else x.view(x.shape), "x.view("),
        (lambda x: x[:, :, divmod(x.shape[2], 3)[1] :], "x.shape[2] % 3"),
        (lambda x: F.interpolate(x, size=[int(size) for size in x.shape[2:]]), "size=["),
        (lambda x: x[:, :, : int(x.size(2))], "x.size(2)"),
        (lambda x: x * int(x.size(0)), "x * x.size(0)"),
        (lambda x: x * int(x.shape[0] / 2), "int(x.shape[0] / 2)"),
        (as_square, "int(math.sqrt(h * w))"),
        (in_windows, "int(parts.shape[0] / (h * w / 4))"),
    ],
)
def test_what_is_made_of_sizes_is_made_in_the_written_forward(
    cut: Callable[..., Any], function: Any, text: str
) -> None:
    result = cut(Net(function), 3, 4, 6)
    assert result.keep.dependencies.removable.any()
    assert GUARD not in result.forward
    assert text in result.forward
    for size in ((4, 4), (5, 7), (9, 5)):
        check_outputs(masked(result.model, result.keep), result.small, (2, 3, *size))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * [0, 1, 2, 3, 4][int(x.shape[2] / 2)],
        lambda x: sum(x[:, :, at : at + 1] * at for at in range(x.shape[2])),
        lambda x: x * {2: 3.0}[int(x.shape[2] / 2)],
    ],
)
def test_what_python_counts_by_is_a_number(cut: Callable[..., Any], function: Any) -> None:
    assert GUARD in cut(Net(function), 3, 4, 4).forward


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * int(x.shape[1] / 2),
        lambda x: x * float(x.shape[1]),
        lambda x: x[:, :, :2] * max(x.shape[1], 3),
        lambda x: x.view(x.shape[0], int(x.shape[1] / 2), 2, *x.shape[2:]).flatten(1, 2),
    ],
)
def test_a_number_of_channels_stays_what_it_was(cut: Callable[..., Any], function: Any) -> None:
    assert cut(Net(function), 3, 4, 4).keep.dependencies.removable.any()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("def f(x: int) -> float:\n    return int(x), isinstance(x, (float, int))", "int float"),
        ("def f(xs):\n    return [*map(int, xs)], type(xs) is float, list(xs)", "int list"),
        ("def f(x, of=int):\n    return int(x)", ""),
        ("def f(:", ""),
    ],
)
def test_a_type_that_is_but_called(tmp_path: Any, text: str, names: str) -> None:
    (tmp_path / "code.py").write_text(text)
    found = _only_called(str(tmp_path / "code.py"))
    assert found & {"int", "float", "list"} == set(names.split())


def test_the_module_is_left_as_it_was(cut: Callable[..., Any]) -> None:
    before = set(globals())
    cut(Net(lambda x: x[:, :, : int(min(x.shape[2], 3))]), 3, 4, 4)
    assert set(globals()) == before
    assert isinstance(torch.zeros(2).sum().int().item(), int)
