"""A forward may ask for its tensors' device where it does the same on all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunecore import UnsupportedError


class Net(nn.Module):
    """Some lines between two layers."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.first(x)))


def without_autocast(x: Tensor) -> Tensor:
    if x.device.type != "meta":
        with torch.autocast(device_type=x.device.type, enabled=False):
            return x * 2
    return x


def test_what_is_the_same_on_every_device_is_followed(cut: Callable[..., Any]) -> None:
    result = cut(Net(without_autocast), 3, 4, 4)
    assert result.forward == (
        "out = self.first(x)\n"
        "with torch.autocast(x.device.type, enabled=False):\n"
        "    out = out * 2\n"
        "return self.last(out)"
    )


def test_a_device_may_be_handed_on(cut: Callable[..., Any]) -> None:
    result = cut(Net(lambda x: x + torch.ones(1, device=x.device)), 3, 4, 4)
    assert "torch.ones(1, device=x.device)" in result.forward


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (lambda x: x if x.device.type == "cuda" else x * 2, "where it runs on 'cuda' it may do"),
        (lambda x: x if x.device.type in ("cpu", "mps") else x * 2, "where it runs on 'cpu'"),
        (lambda x: x if x.is_cuda else x * 2, "where it runs on 'cuda' it may do"),
        (lambda x: x if x.get_device() >= 0 else x * 2, "where it runs on 'cuda' it may do"),
        (lambda x: x if x.get_device() == 1 else x * 2, "which one of several devices"),
    ],
)
def test_what_a_trace_does_not_tell_is_refused(
    find: Callable[..., Any], between: Callable[[Tensor], Tensor], reason: str
) -> None:
    with pytest.raises(UnsupportedError, match=reason) as caught:
        find(Net(between), (2, 3, 4, 4))
    line = caught.value.line
    assert line is None or str(line).startswith(f"{__file__}:")


def moved_where_that_is(x: Tensor) -> Tensor:
    grid = torch.arange(x.size(3)).float()
    ones = torch.ones(4)
    if x.is_cuda:
        grid, ones = grid.cuda(), ones.cuda()
    return x + grid * ones


def moved_by_number(x: Tensor) -> Tensor:
    grid = torch.arange(x.size(3)).float()
    if x.get_device() != -1:
        grid = grid.to(x.get_device())
    return x + grid


def moved_by_name(x: Tensor) -> Tensor:
    return x.to("cpu").cpu() + torch.arange(x.size(3)).to("cpu")


MOVES = [
    (
        moved_where_that_is,
        "grid = torch.arange(out.size(3)).float().to(x.device)\n"
        "ones = torch.ones(4).to(x.device)\nreturn self.last(out + grid * ones)",
    ),
    (
        moved_by_number,
        "x = x + torch.arange(x.size(3)).float().to(x.device)\nreturn self.last(x)",
    ),
    (
        moved_by_name,
        "out = out.cpu() + torch.arange(out.size(3)).to(x.device)\nreturn self.last(out)",
    ),
    (lambda x: x if x.is_cuda else x.to(x.device), "return self.last(x)"),
]


@pytest.mark.parametrize(("between", "text"), MOVES)
def test_what_only_moves_tensors_to_where_the_others_are_is_followed(
    cut: Callable[..., Any], between: Callable[[Tensor], Tensor], text: str
) -> None:
    result = cut(Net(between), 3, 4, 4)
    assert result.forward.partition("\n")[2] == text


def asking_for_gradients(x: Tensor) -> Tensor:
    x.requires_grad = True
    return x * 2


class Frozen(Net):
    """Asks which of its tensors are trained."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__(between)
        self.register_buffer("gain", torch.rand(1))
        self.last.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x) * (2 if self.first.weight.requires_grad else 3)
        if self.last.bias.requires_grad or self.gain.requires_grad:
            x = x * 4
        return self.last(x * self.gain)


def test_what_only_training_needs_is_followed_as_where_a_network_is_used(
    cut: Callable[..., Any],
) -> None:
    result = cut(Net(lambda x: x * 2 if x.requires_grad else x.data * 3), 3, 4, 4)
    assert result.forward == "x = self.first(x).data * 3\nreturn self.last(x)"
    result = cut(Frozen(lambda x: x), 3, 4, 4)
    assert result.forward == "x = self.first(x) * 2 * self.gain\nreturn self.last(x)"
    result = cut(Net(asking_for_gradients), 3, 4, 4)
    assert result.forward.splitlines()[1:] == ["x.requires_grad_(True)", "return self.last(x * 2)"]
    result = cut(Net(lambda x: x.requires_grad_(False)), 3, 4, 4)
    assert result.forward == "x = self.first(x).requires_grad_(False)\nreturn self.last(x)"
