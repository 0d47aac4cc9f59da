"""What `torch._check` and its like are given, be it a function, is followed as it holds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

GUARD = "written for inputs of another"


def check(condition: Any) -> None:
    """As packages do that are exported, for what is known at once and what is asked for."""
    condition = condition() if callable(condition) else condition
    if isinstance(condition, Tensor):
        torch._check_tensor_all_with(ValueError, condition, lambda: "it does not hold")
    else:
        torch._check_with(ValueError, condition, lambda: "it does not hold")


def of_sizes(x: Tensor) -> None:
    check(x.shape[2] * x.shape[3] == x.flatten(2).shape[2])


def of_sizes_when_asked(x: Tensor) -> None:
    check(lambda: x.shape[2] * x.shape[3] == x.flatten(2).shape[2])


def of_axes(x: Tensor) -> None:
    check(x.dim() == 4)


def of_values(x: Tensor) -> None:
    check(x.abs() >= 0)


def at_once(x: Tensor) -> None:
    torch._check(x.shape[2] * x.shape[3] == x.flatten(2).shape[2])


class Net(nn.Module):
    def __init__(self, checks: Callable[[Tensor], None]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)
        self.checks = checks

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        self.checks(x)
        return self.last(x)


@pytest.mark.parametrize(
    ("checks", "written"),
    [
        (of_sizes, "size"),
        (of_sizes_when_asked, "size"),
        (at_once, "size"),
        (of_axes, "kind"),
        (of_values, None),
    ],
)
def test_a_check_is_followed_as_it_holds(
    cut: Callable[..., Any], checks: Callable[[Tensor], None], written: str | None
) -> None:
    forward = cut(Net(checks), 3, 4, 4).forward
    assert (GUARD in forward) is (written is not None)
    assert f"{GUARD} {written or ''}" in forward or not written


class Checking(nn.Module):
    """Checks numbers that it is given, and returns a map by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor, sizes: Tensor) -> Named:
        check(sizes.prod() == x.shape[2] * x.shape[3])
        return Named(map=self.conv(x))


class Named(OrderedDict[str, Tensor]):
    """A dictionary whose items are attributes."""

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)
        self.checking = Checking()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        sizes = torch.empty(2, dtype=torch.long, device=x.device)
        sizes[0], sizes[1] = x.shape[2], x.shape[3]
        logits: Tensor = self.last(self.checking(x, sizes).map)
        return logits


def test_what_a_child_returns_that_checks_numbers_is_known(cut: Callable[..., Any]) -> None:
    assert ".map" not in cut(Holder(), 3, 4, 4).forward
