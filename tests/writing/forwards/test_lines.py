"""Lines of a written forward: what a person would break, nest and name otherwise is so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, SIZE = 6, 4


class Net(nn.Module):
    """A function between two layers."""

    def __init__(self, function: Callable[..., Any], inner: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, WIDTH, 1), nn.Conv2d(WIDTH, 2, 1)
        self.inner = inner or nn.Identity()
        self.p = 0.25
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.last(self.function(self, self.first(x)))


def checked(net: Any, x: Tensor) -> Tensor:
    torch._assert(x.shape[2] == SIZE, f"Input height ({x.shape[2]}) doesn't match model ({SIZE})")
    return x * 2


def in_windows(net: Any, x: Tensor) -> Tensor:
    size = net.window_size
    windows = x.view(x.shape[0], x.shape[1], x.shape[2] // size, size, x.shape[3] // size, size, 1)
    return windows.amax((3, 5))[..., 0]


def with_numbers(net: Any, x: Tensor) -> Tensor:
    sizes = [x.shape[2]]
    return x * torch.arange(sizes[0], device=x.device) + sizes[0]


def test_a_check_says_nothing_of_the_trace(cut: Callable[..., Any]) -> None:
    text = """torch._assert(x.shape[2] == 4, "Input height (...) doesn't match model (4)")"""
    assert text in cut(Net(checked), 3, SIZE, SIZE).forward


def test_a_long_call_of_sizes_is_one_call(cut: Callable[..., Any]) -> None:
    net = Net(in_windows)
    net.window_size = 2
    text = """\
windows = x.view(
    x.shape[0],
    x.shape[1],
    x.shape[2] // self.window_size,
    self.window_size,
    x.shape[3] // self.window_size,
    self.window_size,
    1,
)
"""
    assert text in cut(net, 3, SIZE, SIZE).forward


def test_a_size_is_named_after_its_axis(cut: Callable[..., Any]) -> None:
    forward = cut(Net(with_numbers), 3, SIZE, SIZE).forward
    assert "h = x.shape[2]\nx = x * torch.arange(h, device=x.device) + h\n" in forward


class Halves(nn.Module):
    """Takes a pair of sizes, and returns a pair."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 1)
        self.act = nn.Identity()

    def forward(self, x: Tensor, sizes: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
        height, width = sizes
        x = self.act(self.conv(x))
        return x.view(x.shape[0], -1, height * width).view(x.shape[0], -1, height, width), sizes


def with_its_sizes(net: Any, x: Tensor) -> Tensor:
    return F.relu(net.inner(x, x.shape[2:])[0])


def test_a_pair_that_is_given_and_an_item_of_a_result(cut: Callable[..., Any]) -> None:
    text = cut(Net(with_its_sizes, Halves()), 3, SIZE, SIZE).text
    assert "        height, width = sizes\n" in text
    assert "-1, height, width), sizes\n" in text
    assert "self.inner(x, x.shape[2:])[0]" in text


class Skips(nn.Module):
    """Takes a list of tensors apart."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * WIDTH, WIDTH, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        skip, head = features
        return self.conv(torch.cat([F.relu(head), skip], 1))


def with_skips(net: Any, x: Tensor) -> Tensor:
    return net.inner([x, x.tanh()])


def test_a_list_that_is_given(cut: Callable[..., Any]) -> None:
    assert "        skip, head = features\n" in cut(Net(with_skips, Skips()), 3, SIZE, SIZE).text


def test_what_is_returned_is_not_named_first(cut: Callable[..., Any]) -> None:
    class Returned(Net):
        def forward(self, x: Tensor) -> Tensor:
            x = self.last(self.first(x))
            return F.interpolate(
                x, scale_factor=2.0, mode="bilinear", align_corners=True, antialias=True
            )

    forward = cut(Returned(with_skips), 3, SIZE, SIZE).forward
    text = 'x, scale_factor=2.0, mode="bilinear", align_corners=True, antialias=True'
    assert forward.endswith(f"return F.interpolate(\n    {text}\n)")


def dropped(net: Any, x: Tensor) -> Tensor:
    return F.dropout(x, net.p if net.training else 0.0, True)


def scaled(net: Any, x: Tensor) -> Tensor:
    x = torch.tanh(x) * (0.5 if net.training else 2.0)
    return x + 1.0


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (dropped, "x = F.dropout(self.first(x), p=self.p if self.training else 0.0)"),
        (scaled, "x = torch.tanh(self.first(x)) * (0.5 if self.training else 2.0) + 1.0"),
    ],
)
def test_a_fraction_of_each_mode(cut: Callable[..., Any], function: Any, text: str) -> None:
    forward = cut(Net(function), 3, SIZE, SIZE).forward
    assert text in forward
    assert "if self.training:" not in forward
