"""What a written network starts with: as the original's class says, else numbers alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import prunecore


class Net(nn.Module):
    """Scales its channels by a parameter that it makes as it is told."""

    def __init__(self, gain: Tensor | None = None) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        if gain is not None:
            self.gain = nn.Parameter(gain)
        self.last = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)) * self.gain.reshape(1, -1, 1, 1))


class Ones(Net):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(8))


class Small(Net):
    def __init__(self, start: float = 1e-5) -> None:
        super().__init__()
        self.gain = nn.Parameter(start * torch.ones(1, 8, 1, 1))


class Drawn(Net):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.randn(8) * 0.02 + 1)


class Between(Net):
    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("gain", nn.Parameter(torch.rand(8) * 2 - 1))


class Truncated(Net):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(8))
        nn.init.trunc_normal_(self.gain, std=0.02)


class Reset(Net):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.Tensor(8))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.gain.data.uniform_(-0.5, 0.5)


class Filled(Net):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.empty(8).fill_(0.5))


class Listed(Net):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor([0.25] * 8))
        self.gain = nn.Parameter(torch.full((8,), 2**-0.5))


class ByItself(Net):
    """Derives from one whose text says it."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = Ones().gain


class Derived(Ones):
    pass


STARTS: list[tuple[Callable[[], nn.Module], str]] = [
    (Ones, "torch.ones({})"),
    (Derived, "torch.ones({})"),
    (Small, "torch.full((1, {}, 1, 1), 1e-05)"),
    (lambda: Small(0.1), "torch.full((1, {}, 1, 1), 1e-05)"),
    (Drawn, "torch.normal(1.0, 0.02, ({},))"),
    (Between, "nn.init.uniform_(torch.empty({}), -1, 1)"),
    (Truncated, "nn.init.trunc_normal_(torch.empty({}), std=0.02)"),
    (Reset, "nn.init.uniform_(torch.empty({}), -0.5, 0.5)"),
    (Filled, "torch.full(({},), 0.5)"),
    (Listed, "torch.full(({},), 0.7071067811865476)"),
    (ByItself, "torch.ones({})"),
    (lambda: Net(torch.full((8,), 3.0)), "torch.full(({},), 3.0)"),
    (lambda: Net(torch.tensor([1.0, 2.0] * 4)), "torch.normal(1.5, 0.5, ({},))"),
]


@pytest.mark.parametrize(("make", "start"), STARTS)
def test_a_parameter_starts_as_the_class_says(make: Callable[[], nn.Module], start: str) -> None:
    small = prunecore.prune(make(), level=40, input_shape=(3, 4, 4))
    width = small.model.first.out_channels
    assert f"self.gain = nn.Parameter({start.format(width)})" in _joined(small.source)


def test_a_layer_that_is_called_in_another_way_starts_as_torch_has_it() -> None:
    class Centred(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            return F.conv2d(x, weight, self.bias)

    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), Centred(8, 8, 3), nn.Conv2d(8, 2, 1))
    small = prunecore.prune(net, level=40, input_shape=(3, 4, 4))
    torch.manual_seed(0)
    written = type(small.model)()[2]
    bound = written.weight[0].numel() ** -0.5
    assert 0.9 * bound < written.weight.abs().max() < bound
    assert 0 < written.bias.abs().max() < bound
    assert "bound = self.weight[0].numel() ** -0.5\n" in small.source


def test_buffers_start_as_the_class_says() -> None:
    class Normalised(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("gain", torch.ones(8))

    small = prunecore.prune(Normalised(), level=40, input_shape=(3, 4, 4))
    assert 'self.register_buffer("gain", torch.ones(' in small.source


def test_instances_of_one_class_share_what_they_start_like() -> None:
    def scaled(gain: Any) -> nn.Module:
        return Net(gain) if gain is not None else Net(torch.rand(8))

    first, second = scaled(None), scaled(None)
    net = nn.Sequential(first, nn.Conv2d(2, 3, 1), second)
    small = prunecore.prune(net, level=40, input_shape=(3, 4, 4))
    assert small.source.count("class Net(") == 1


def _joined(source: str) -> str:
    """The lines of a call that is broken into several as one."""
    text = " ".join(source.split())
    return text.replace("( ", "(").replace(", )", ")").replace(" )", ")")
