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
        (lambda x: x if x.is_cuda else x * 2, "cannot be used as inputs to control flow"),
    ],
)
def test_what_a_trace_does_not_tell_is_refused(
    find: Callable[..., Any], between: Callable[[Tensor], Tensor], reason: str
) -> None:
    with pytest.raises(UnsupportedError, match=reason) as caught:
        find(Net(between), (2, 3, 4, 4))
    assert str(caught.value.line).startswith(f"{__file__}:")
