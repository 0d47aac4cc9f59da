"""What a forward leaves behind for its next call, and in other modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunecore import UnsupportedError

SHARED = [0]


class Noted(list[int]):
    """A list that may have attributes, too."""


class Settings:
    """What several modules hold."""

    calls = 0


class Net(nn.Module):
    """A number that a function of the network makes, between two layers."""

    def __init__(self, number: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)
        self.number = number
        self.calls = 0
        self.size: Any = None
        self.seen: list[Any] = []
        self.noted = Noted()
        self.by_name: dict[str, Any] = {"calls": 1}
        self.settings = Settings()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * self.number(self, x))


def warmed_up(net: Any, _: Tensor) -> float:
    net.calls += 1
    return 0.5 if net.calls < 3 else 1.0


def counted(net: Any, _: Tensor) -> int:
    net.calls += 1
    return net.calls  # type: ignore[no-any-return]


def in_a_list(net: Any, _: Tensor) -> int:
    net.seen.append(1)
    return len(net.seen)


def in_a_list_of_its_own(net: Any, _: Tensor) -> int:
    net.noted.append(1)
    return len(net.noted)


def by_name(net: Any, _: Tensor) -> float:
    net.by_name["calls"] *= 3
    return float(net.by_name["calls"])


def in_settings(net: Any, _: Tensor) -> int:
    net.settings.calls += 1
    return net.settings.calls  # type: ignore[no-any-return]


def shared(_: Any, __: Tensor) -> float:
    SHARED[0] = (SHARED[0] + 1) % 3
    return float(SHARED[0] + 1)


@pytest.mark.parametrize(
    "number", [warmed_up, counted, in_a_list, in_a_list_of_its_own, by_name, in_settings, shared]
)
def test_what_calls_count_is_refused(find: Callable[..., Any], number: Any) -> None:
    with pytest.raises(UnsupportedError, match="something else when it is called again"):
        find(Net(number), (2, 3, 4, 4))
    assert SHARED == [0]


def noted(net: Any, x: Tensor) -> float:
    net.calls += 1
    net.seen.append(x)
    net.by_name["x"] = [x]
    net.size = x.shape
    net.settings.latest = x
    return 2.0


def test_what_is_noted_for_nobody_is_not_written(cut: Callable[..., Any]) -> None:
    result = cut(Net(noted), 3, 4, 4)
    assert result.forward == "x = self.first(x) * 2.0\nreturn self.last(x)"


class Reading(nn.Module):
    """A block that reads what others set."""

    scale = 1.0
    rows: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.rows or x.size(2)
        return self.conv(x)[:, :, :rows] * self.scale


class Setting(nn.Module):
    """A network that sets something of its block."""

    def __init__(self, set_it: Callable[[Any, Tensor], None]) -> None:
        super().__init__()
        self.first, self.inner, self.last = nn.Conv2d(3, 6, 1), Reading(), nn.Conv2d(6, 2, 1)
        self.set_it = set_it

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        self.set_it(self.inner, x)
        return self.last(self.inner(x))


@pytest.mark.parametrize(
    ("name", "value"),
    [("scale", lambda _: 2.0), ("rows", lambda x: x.size(2)), ("conv.stride", lambda _: (2, 2))],
)
def test_what_is_set_for_another_module_is_refused(
    find: Callable[..., Any], name: str, value: Callable[[Tensor], Any]
) -> None:
    def set_it(inner: Any, x: Tensor) -> None:
        *holders, last = name.split(".")
        setattr(inner.get_submodule(".".join(holders)), last, value(x))

    with pytest.raises(UnsupportedError, match=f"it sets self.inner.{name}, which that module"):
        find(Setting(set_it), (2, 3, 4, 4))


def test_what_another_module_has_already_may_be_set(cut: Callable[..., Any]) -> None:
    def set_it(inner: Any, x: Tensor) -> None:
        inner.scale, inner.conv.stride, inner.seen_last = 1.0, (1, 1), x

    inner = Setting(set_it)
    inner.inner.scale = 1.0
    cut(inner, 3, 4, 4)
    assert torch.is_tensor(inner.inner.conv.weight)
    assert not hasattr(inner.inner, "seen_last")
