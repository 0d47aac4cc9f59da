"""Results that are taken apart at once, as a person would write it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, SIZE = 6, 4


class Net(nn.Module):
    """A function between two layers."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, WIDTH, 1)
        self.b = nn.Conv2d(WIDTH // 2, WIDTH // 2, 1)
        self.qkv = nn.Conv2d(3, 2 * WIDTH, 1)
        self.last = nn.LazyConv2d(2, 1)
        self.function = function
        self(torch.rand(2, 3, SIZE, SIZE))

    def forward(self, x: Tensor) -> Any:
        return self.last(self.function(self, x))


def sizes(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    b, c, h, w = x.size()
    return x.view(b, c, h * w).view(b, c, h, w)


def two_sizes(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    _, _, h, w = x.shape
    return F.interpolate(x, size=(h * 2, w * 2))


def last_sizes(net: Any, x: Tensor) -> Tensor:
    h, w = x.shape[-2:]
    return F.interpolate(net.a(x), size=(w, h))


def one_size(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    return x.reshape(x.shape[0], -1, SIZE, SIZE)


def halves(net: Any, x: Tensor) -> Tensor:
    left, right = net.a(x).split(WIDTH // 2, 1)
    return torch.cat([left * 2, net.b(right)], 1)


def halves_of_a_variable(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    left, right = x.split(WIDTH // 2, 1)
    return torch.cat([x, left, right + 1], 1)


def one_half(net: Any, x: Tensor) -> Tensor:
    return net.b(net.a(x).split(WIDTH // 2, 1)[1])


def attention(net: Any, x: Tensor) -> Tensor:
    q, k, v = net.qkv(x).reshape(-1, 3, 2 * WIDTH // 3, SIZE * SIZE).unbind(1)
    return (F.softmax(q * k, -1) * v).reshape(-1, 4, SIZE, SIZE)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (sizes, "b, c, h, w = x.size()\nx = x.view(b, c, h * w).view(b, c, h, w)"),
        (two_sizes, "_, _, h, w = x.shape\nx = F.interpolate(x, size=(h * 2, w * 2))"),
        (last_sizes, "h, w = x.shape[-2:]\nx = F.interpolate(self.a(x), size=(w, h))"),
        (one_size, "x = x.reshape(x.shape[0], -1, 4, 4)"),
        (
            halves,
            "left, right = self.a(x).split(2, 1)\nx = torch.cat([left * 2, self.b(right)], 1)",
        ),
        (
            halves_of_a_variable,
            "left, right = x.split(2, 1)\nx = torch.cat([x, left, right + 1], 1)",
        ),
        (one_half, "x = self.a(x).split(2, 1)[1]\n"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_taken_apart(
    cut_to: Callable[..., Any], function: Callable[..., Any], text: str
) -> None:
    forward = cut_to(Net(function), {"a": [0, 1, 3, 4]}, 3, SIZE, SIZE).forward
    assert text in forward


def test_a_size_does_not_take_the_name_of_an_input(cut: Callable[..., Any]) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.last = nn.Conv2d(3, WIDTH, 1), nn.Conv2d(WIDTH + 3, 2, 1)

        def forward(self, h: Tensor) -> Tensor:
            x = self.a(h)
            b, c, height, width = x.shape
            x = x.view(b, c, height * width).view(b, c, height, width)
            return self.last(torch.cat([x, h], 1))

    assert "b, c, height, width = " in cut(Named(), 3, SIZE, SIZE).forward


def test_queries_keys_and_values(cut: Callable[..., Any]) -> None:
    assert "q, k, v = " in cut(Net(attention), 3, SIZE, SIZE).forward


class Both(NamedTuple):
    left: Tensor
    right: Tensor


@pytest.mark.parametrize(
    ("kind", "text"), [(Both, "left, right = self.two(x)"), (tuple, "left, right = self.two(x)")]
)
def test_what_a_module_returns(cut: Callable[..., Any], kind: Any, text: str) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(3, 4), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Any:
            both = self.left(x), self.right(x)
            return Both(*both) if kind is Both else both

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.two, self.last = Two(), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            left, right = self.two(x)
            return self.last(left - torch.relu(right))

    assert text in cut(Outer(), 3).forward


class Pairs(nn.Module):
    """Returns a tensor, and a pair of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Any:
        x = self.conv(x)
        return x, (x + 1, x * 2)


def pair_apart(net: Any, x: Tensor) -> Tensor:
    out, (left, right) = net.pairs(net.a(x))
    return out * left + left * right


def half_of_a_pair(net: Any, x: Tensor) -> Tensor:
    out, (_, right) = net.pairs(net.a(x))
    return out * right + right


def pair_by_name(net: Any, x: Tensor) -> Tensor:
    out, both = net.pairs(net.a(x))
    return out * both[0] + both[1]


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (pair_apart, "out, (left, right) = self.pairs(x)\n"),
        (half_of_a_pair, "out, (_, right) = self.pairs(x)\n"),
        (pair_by_name, "out, both = self.pairs(x)\n"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_taken_apart_within(cut: Callable[..., Any], function: Any, text: str) -> None:
    class Within(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.last = nn.Conv2d(3, WIDTH, 1), nn.Conv2d(WIDTH, 2, 1)
            self.pairs = Pairs()

        def forward(self, x: Tensor) -> Tensor:
            return self.last(function(self, x))

    assert text in cut(Within(), 3, SIZE, SIZE).forward


def test_pairs_of_a_loop(cut: Callable[..., Any]) -> None:
    class Turns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.last = nn.Conv2d(3, WIDTH, 1), nn.Conv2d(WIDTH, 2, 1)
            self.layers = nn.ModuleList(Pairs() for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            for layer in self.layers:
                x, (left, right) = layer(x)
                x = x + left * right
            return self.last(x)

    assert "for layer in self.layers:" in cut(Turns(), 3, SIZE, SIZE).forward


def test_what_each_turn_of_a_loop_takes_apart(cut: Callable[..., Any]) -> None:
    class Turns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 6, 1)
            self.layers = nn.ModuleList(nn.Conv2d(6, 6, 3) for _ in range(3))
            self.last = nn.Conv2d(6, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            for layer in self.layers:
                h, w = x.shape[-2:]
                x = F.interpolate(layer(x), size=(h, w))
            return self.last(x)

    assert "for layer in self.layers:" in cut(Turns(), 3, SIZE, SIZE).forward


# A result that a forward goes through


def each(net: Any, x: Tensor) -> Tensor:
    out = []
    for part in net.a(x).split(WIDTH // 2, 1):
        out.append(net.b(part))
    return torch.cat(out, 1)


def comprehension(net: Any, x: Tensor) -> Tensor:
    return torch.cat([net.b(part) for part in net.a(x).chunk(2, 1)], 1)


def the_rest(net: Any, x: Tensor) -> Tensor:
    first, *rest = net.a(x).split(2, 1)
    return torch.cat([first * 2, *rest], 1)


def zipped(net: Any, x: Tensor) -> Tensor:
    layers = (net.b, torch.relu)
    parts = zip(layers, net.a(x).chunk(2, 1), strict=True)
    return torch.cat([layer(part) for layer, part in parts], 1)


def numbered(net: Any, x: Tensor) -> Tensor:
    return torch.cat([part * n for n, part in enumerate(net.a(x).chunk(2, 1), start=2)], 1)


def counted(net: Any, x: Tensor) -> Tensor:
    parts = net.a(x).chunk(2, 1)
    return torch.cat([parts[len(parts) - 1 - n] for n in range(len(parts))], 1)


def backwards(net: Any, x: Tensor) -> Tensor:
    return torch.cat(list(reversed(net.a(x).chunk(2, 1))), 1)


def joined(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    return torch.cat(x.chunk(2, 1) + (x[:, :2],), 1)  # noqa: RUF005 - as many write it


def shape(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    return x.view(*x.shape[:2], -1).view(*x.shape)


def joined_shape(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    assert len(x.shape) == 4
    return x.view(x.shape[:2] + (1, SIZE * SIZE)).view(x.shape)  # noqa: RUF005


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (each, "x = torch.cat([self.b(part1), self.b(part2)], 1)"),
        (comprehension, "x = torch.cat([self.b(part1), self.b(part2)], 1)"),
        (the_rest, "first, x2, x3 = self.a(x).split([2, 1, 1], 1)"),
        (zipped, "x = torch.cat([self.b(part1), torch.relu(part2)], 1)"),
        (numbered, "x = torch.cat([part1 * 2, part2 * 3], 1)"),
        (counted, "x = torch.cat([x2, x1], 1)"),
        (backwards, "x = torch.cat([x2, x1], 1)"),
        (joined, "x = torch.cat(x.chunk(2, 1) + (x[:, :2],), 1)"),
        (shape, "b, c = x.shape[:2]"),
        (joined_shape, "x = x.view(x.shape[:2] + (1, 16)).view(x.shape)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_gone_through(
    cut_to: Callable[..., Any], function: Callable[..., Any], text: str
) -> None:
    forward = cut_to(Net(function), {"a": [0, 1, 3, 4]}, 3, SIZE, SIZE).forward
    assert text in forward


@pytest.mark.parametrize("go", ["keys", "values", "items", "itself"])
def test_a_dictionary_that_a_module_returns_is_gone_through(
    cut: Callable[..., Any], go: str
) -> None:
    class Levels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.high, self.low = nn.Linear(3, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            high = self.high(x)
            return {"high": high, "low": self.low(high)}

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.levels = Levels()
            self.heads = nn.ModuleDict({"high": nn.Linear(4, 2), "low": nn.Linear(4, 2)})

        def forward(self, x: Tensor) -> Tensor:
            levels = self.levels(x)
            if go == "values":
                return sum(map(self.heads["low"], levels.values()))  # type: ignore[return-value]
            if go == "items":
                return sum(self.heads[key](x) for key, x in levels.items())  # type: ignore[return-value]
            keys = levels.keys() if go == "keys" else levels
            return torch.cat([self.heads[key](levels[key]) for key in keys], 0)

    forward = cut(Outer(), 3).forward
    assert '["high"]' in forward
    assert '["low"]' in forward
    assert f".{go}()" not in forward


def test_what_eval_mode_alone_takes_apart_comes_before_what_both_do(
    cut: Callable[..., Any],
) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.aside = nn.Linear(4, 6), nn.Linear(4, 4)
            self.second, self.last = nn.Linear(3, 4), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            _, y = torch.split(self.first(x), 3, 1)
            if not self.training:
                _, _ = self.aside(x).chunk(2, 1)
            _, y = torch.split(self.second(y), 2, 1)
            return self.last(y)

    cut(Block(), 4)
