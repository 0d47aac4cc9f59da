"""A written forward calls its values what the user's forward calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn


class Net(nn.Module):
    """A function between two layers."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.stem, self.left, self.right = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.last = nn.Linear(6, 2)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self, x))


def own(net: Any, x: Tensor) -> Tensor:
    features = net.stem(x)
    gate = torch.sigmoid(net.left(features))
    return features * gate + gate


def used_again(net: Any, x: Tensor) -> Tensor:
    x = net.stem(x)
    shortcut = x
    x = net.left(x)
    return x * torch.sigmoid(x) + shortcut


def used_for_another(net: Any, x: Tensor) -> Tensor:
    out = net.stem(x)
    first = net.left(out)
    out = net.right(out)
    return out * torch.sigmoid(out) + first * torch.sigmoid(first)


def unpacked(net: Any, x: Tensor) -> Tensor:
    low, high = net.stem(x).chunk(2, 1)
    return torch.cat([torch.sigmoid(high), torch.tanh(low)], 1)


def on_the_way(net: Any, x: Tensor) -> Tensor:
    context = net.left(torch.relu(net.stem(x)).square()).square()
    return context + torch.sigmoid(context)


def weighted(net: Any, features: Tensor) -> Tensor:
    weights = torch.sigmoid(net.left(features))
    return features * weights + weights


def by_a_helper(net: Any, x: Tensor) -> Tensor:
    return weighted(net, net.stem(x))


def hiding_what_is_built_in(net: Any, x: Tensor) -> Tensor:
    input = net.stem(x)
    return input * torch.sigmoid(net.left(input))


def hiding_what_is_called(net: Any, x: Tensor) -> Tensor:
    x = net.stem(x)
    F = torch.sigmoid(x)
    return nn.functional.relu(x * F) * F


@pytest.mark.parametrize(
    ("function", "lines"),
    [
        (own, "features = self.stem(x)\ngate = torch.sigmoid(self.left(features))"),
        (used_again, "shortcut = self.stem(x)\nx = self.left(shortcut)\nx = x * "),
        (used_for_another, "out = self.stem(x)\nfirst = self.left(out)\nout = self.right(out)"),
        (unpacked, "low, high = self.stem(x).split([1, 2], 1)"),
        (on_the_way, "context = torch.relu(self.stem(x)).square()\ncontext = self.left(context)"),
        (by_a_helper, "features = self.stem(x)\nweights = torch.sigmoid(self.left(features))"),
        (hiding_what_is_built_in, "x = self.stem(x)\nx = x * torch.sigmoid(self.left(x))"),
        (hiding_what_is_called, "x = self.stem(x)\nout = torch.sigmoid(x)\n"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_values_are_called_what_the_forward_calls_them(
    cut: Callable[..., Any],
    check_style: Callable[..., None],
    function: Callable[..., Tensor],
    lines: str,
) -> None:
    done = cut(Net(function), 3)
    assert done.forward.startswith(lines)
    check_style([done.text])


def test_a_forward_without_a_file_keeps_its_names(cut: Callable[..., Any]) -> None:
    scope: dict[str, Any] = {"torch": torch}
    exec(
        "def forward(self, x):\n"
        "    features = self.stem(x)\n"
        "    return self.last(features * torch.sigmoid(features))\n",
        scope,
    )

    class Unfiled(Net):
        forward = scope["forward"]

    assert cut(Unfiled(own), 3).forward.startswith("features = self.stem(x)\n")


def test_instances_that_call_it_differently_have_names_of_the_writer_s(
    cut: Callable[..., Any],
) -> None:
    class Block(nn.Module):
        def __init__(self, wide: bool) -> None:
            super().__init__()
            self.layer, self.wide = nn.Linear(6, 6), wide

        def forward(self, x: Tensor) -> Tensor:
            if self.wide:
                wide = self.layer(x)
                return wide * torch.sigmoid(wide)
            narrow = self.layer(x)
            return narrow * torch.sigmoid(narrow)

    text = cut(nn.Sequential(nn.Linear(3, 6), Block(True), Block(False), nn.Linear(6, 2)), 3).text
    assert "x = self.layer(x)" in text
    assert "wide" not in text
    assert "narrow" not in text
