"""Weights of which a forward takes rows: each kept row once, the bounds written for those."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import prunecore

WIDTH = 6


class Joint(nn.Module):
    """The rows of several layers in one weight."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3 * WIDTH, WIDTH))
        self.bias = nn.Parameter(torch.randn(3 * WIDTH))
        self.register_buffer("rows", torch.arange(3 * WIDTH).view(WIDTH, 3).T.reshape(-1))
        self.function = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def part(layer: Any, x: Tensor, first: int, last: int) -> Tensor:
    return F.linear(x, layer.weight[first:last], layer.bias[first:last])


def together(layer: Any, x: Tensor) -> Tensor:
    a, b, c = (part(layer, x, WIDTH * n, WIDTH * (n + 1)) for n in range(3))
    return torch.cat([a * b, c], 1)


def apart(layer: Any, x: Tensor) -> Tensor:
    rest = F.linear(x, layer.weight[WIDTH:], layer.bias[WIDTH:])
    return torch.cat([part(layer, x, 0, WIDTH) - rest.mean(1, keepdim=True), x], 1)


def one_of_two(layer: Any, x: Tensor) -> Tensor:
    return torch.cat([part(layer, x, 0, WIDTH), part(layer, x, WIDTH, 2 * WIDTH)], 1)


def overlapping(layer: Any, x: Tensor) -> Tensor:
    return torch.cat([part(layer, x, 0, 7), part(layer, x, 4, 9)], 1)


def by_stored_numbers(layer: Any, x: Tensor) -> Tensor:
    rows = layer.rows
    return F.linear(x, layer.weight[rows], layer.bias[rows])[:, : 2 * WIDTH]


def narrowed(layer: Any, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight.narrow(0, 2, 2 * WIDTH))


def of_columns_too(layer: Any, x: Tensor) -> Tensor:
    return torch.cat([F.linear(x[:, :4], layer.weight[1:10, :4]), x[:, :3]], 1)


def scaled(layer: Any, x: Tensor) -> Tensor:
    return F.linear(x, (layer.weight * 0.5)[: 2 * WIDTH])


def in_chunks(layer: Any, x: Tensor) -> Tensor:
    a, b, c = layer.weight.chunk(3)
    bias, _, _ = layer.bias.chunk(3)
    return torch.cat([F.linear(x, a, bias) * F.linear(x, b), F.linear(x, c)], 1)


def in_parts(layer: Any, x: Tensor) -> Tensor:
    _, weight = torch.split(layer.weight, [WIDTH, 2 * WIDTH])
    return F.linear(x, weight)


def and_their_mean(layer: Any, x: Tensor) -> Tensor:
    return F.linear(x * layer.weight.mean(0), layer.weight)[:, : 2 * WIDTH]


def and_a_single_one(layer: Any, x: Tensor) -> Tensor:
    return torch.cat([F.linear(x, layer.weight[6:]), x * layer.weight[11]], 1)[:, : 2 * WIDTH]


def and_the_sum_of_others(layer: Any, x: Tensor) -> Tensor:
    others = (x[:, None] + layer.weight[8:12]).mean(1)
    return torch.cat([F.linear(x, layer.weight[6:]), others], 1)[:, : 2 * WIDTH]


def within_rows(layer: Any, x: Tensor) -> Tensor:
    rows = layer.weight[: 2 * WIDTH]
    return torch.cat([F.linear(x, rows[WIDTH:]), F.linear(x, rows[:WIDTH])], 1)


ROWS = [
    together, apart, one_of_two, overlapping, by_stored_numbers, narrowed, of_columns_too, scaled,
    in_chunks, in_parts, and_their_mean, and_a_single_one, and_the_sum_of_others, within_rows,
]  # fmt: skip


class Counting(TorchFunctionMode):
    """Counts the multiply-accumulates of linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function is F.linear:
            self.macs += args[0].numel() // args[0].shape[-1] * args[1].numel()
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("forward", ROWS)
@pytest.mark.parametrize("seed", range(3))
def test_rows_of_a_weight_go(forward: Callable[..., Tensor], seed: int) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(3, WIDTH), nn.Sigmoid(), Joint(forward), nn.Sigmoid(), nn.Linear(2 * WIDTH, 4)
    )
    small = prunecore.prune(model, level=40, input_shape=(3,), mode="random", seed=seed)
    assert not {"2", "2.weight"} & {one["layer"] for one in small.report["left_whole"]}
    rows, columns = small.report["kept"]["2.weight"]
    assert len(rows or columns) < (3 * WIDTH if rows else WIDTH)
    for network, counted in ((model, "before"), (small.model, "after")):
        with Counting() as counting:
            network(torch.rand(1, 3))
        assert small.report[counted]["macs"] == counting.macs


class Octave(nn.Module):
    """Takes rows of its weight, or columns: twice in either mode."""

    def __init__(self, read: int, made: int, first: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(made, read, 1, 1))
        self.read, self.made, self.first = read, made, first

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.first:
            half, whole = self.made // 2, self.read
            high = F.conv2d(x, self.weight[0:half, 0:whole])
            return high, F.conv2d(x, self.weight[half:, 0:whole])
        half, whole = self.read // 2, self.made
        high = F.conv2d(x, self.weight[0:whole, 0:half])
        return high, F.conv2d(y, self.weight[0:whole, half:])


class Octaves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)
        self.split, self.join = Octave(8, 16, True), Octave(16, 8, False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(sum(self.join(*self.split(self.stem(x)))))


@pytest.mark.parametrize("seed", range(3))
def test_instances_that_take_rows_and_such_that_take_columns(seed: int) -> None:
    torch.manual_seed(0)
    small = prunecore.prune(Octaves(), level=30, input_shape=(3, 8, 8), mode="random", seed=seed)
    assert small.report["verified"]["max_relative_difference"] <= 1e-9
