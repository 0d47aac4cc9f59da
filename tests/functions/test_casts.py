"""Other types, in every spelling, leave the channels as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn


class Net(nn.Module):
    def __init__(self, between: Callable[[nn.Conv2d, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.first, self.first(x)))


@pytest.mark.parametrize(
    ("between", "text"),
    [
        (lambda _, x: x.type(torch.float64), ".type(torch.float64)"),
        (lambda _, x: x.type(dtype=torch.float64), ".type(dtype=torch.float64)"),
        (lambda _, x: x.type(torch.DoubleTensor), ".type(torch.float64)"),
        (lambda _, x: x.type("torch.DoubleTensor"), '.type("torch.DoubleTensor")'),
        (lambda first, x: x.type(first.weight.dtype), ".type(self.first.weight.dtype)"),
        (lambda first, x: x.type(first.weight.type()), ".type(self.first.weight.type())"),
        (lambda _, x: x.type_as(x), ".type_as("),
        (lambda _, x: x.cpu(), ".cpu()"),
        (lambda _, x: x.data, ".data"),
        (lambda first, x: x * first.bias.data.view(-1, 1, 1), "self.first.bias.data.view("),
    ],
)
def test_a_cast_is_written_as_it_stands(
    cut: Callable[..., Any], between: Callable[[nn.Conv2d, Tensor], Tensor], text: str
) -> None:
    result = cut(Net(between), 3, 4, 4)
    assert text in result.forward
    assert result.keep.dependencies.removable.any()


@pytest.mark.parametrize(
    "as_mask",
    [
        lambda mask: mask.bool(),
        lambda mask: mask.to(torch.bool),
        lambda mask: mask.to(device=mask.device, dtype=torch.bool),
        lambda mask: mask.type(torch.bool),
        lambda mask: mask.type("torch.BoolTensor"),
        lambda mask: mask.int().to(torch.float64).to(mask > 0),
    ],
)
def test_whole_numbers_become_a_mask(
    cut: Callable[..., Any], as_mask: Callable[[Tensor], Tensor]
) -> None:
    def masked(_: nn.Conv2d, x: Tensor) -> Tensor:
        return x.masked_fill(as_mask((x > 0).long()), -1)

    result = cut(Net(masked), 3, 4, 4)
    assert result.keep.dependencies.removable.any()
