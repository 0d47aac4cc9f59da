"""What a forward is called with: constants are part of it, lists of tensors can be gone through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunecore import UnsupportedError


class Head(nn.Module):
    """What it does depends on its second argument, and perhaps on a third."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.Linear(6, 6)
        self.fc = nn.Linear(6, 2)

    def forward(
        self, x: Tensor, raw: bool = True, how: str | None = "sum", scale: float = 1.0
    ) -> Tensor:
        x = self.norm(x)
        if how is not None:
            x = x * (2 if how == "sum" else 3)
        return x if raw else self.fc(x) * scale


class Net(nn.Module):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 6), Head()
        self.args, self.kwargs = args, kwargs

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x), *self.args, **self.kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs", "signature"),
    [
        ((False,), {}, "self, x: Tensor"),
        ((False, None), {}, "self, x: Tensor"),
        ((), {"how": None, "raw": False}, "self, x: Tensor"),
        ((False, "mean", 4.0), {}, "self, x: Tensor, scale: float = 1.0"),
        ((False,), {"scale": 5.0}, "self, x: Tensor, scale: float = 1.0"),
    ],
)
def test_a_constant_decides_what_is_written(
    cut: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], signature: str
) -> None:
    text = cut(Net(*args, **kwargs), 3).text
    assert f"def forward({signature}) -> Tensor:" in text


def test_one_module_cannot_be_told_two_things(find: Callable[..., Any]) -> None:
    class Twice(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.head(self.stem(x), True), raw=False)

    message = r"head \(Head\): it is called with \{'raw': False\} in one place, and with"
    with pytest.raises(UnsupportedError, match=message):
        find(Twice(), (2, 3))


class Growing(nn.Module):
    """Appends to the list that it is given, and goes through it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 4), nn.Linear(4, 5)])

    def forward(self, outs: list[Tensor], *, named: dict[str, Tensor]) -> Tensor:
        for layer in self.layers:
            outs.append(layer(outs[-1]))
        total = torch.cat(outs, dim=1)
        for value in named.values():
            total = torch.cat([total, value], dim=1)
        return total


def test_lists_and_dictionaries_of_tensors_can_be_gone_through(cut: Callable[..., Any]) -> None:
    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.growing, self.last = nn.Linear(3, 6), Growing(), nn.Linear(21, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.last(self.growing([x], named={"again": x}))

    text = cut(Dense(), 3).text
    assert "def forward(self, outs: list[Tensor], named: dict[str, Tensor]) -> Tensor:" in text


def test_a_list_that_is_not_a_list_of_tensors_stays_an_argument(cut: Callable[..., Any]) -> None:
    class Resized(nn.Module):
        def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
            return x.unflatten(0, (-1, size[0])).flatten(0, size[1])

    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.resized, self.last = nn.Linear(3, 6), Resized(), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.resized(self.stem(x), (1, 1)))

    assert "self.resized(self.stem(x), (1, 1))" in cut(Sized(), 3).forward


class Chosen(nn.Module):
    """One of two methods is its forward."""

    def __init__(self, doubled: bool) -> None:
        super().__init__()
        self.inner, self.last = nn.Linear(3, 6), nn.Linear(6, 2)
        self.forward = self.twice if doubled else self.once  # type: ignore[method-assign]

    def once(self, x: Tensor) -> Tensor:
        return self.last(self.inner(x))

    def twice(self, x: Tensor) -> Tensor:
        return 2 * self.last(self.inner(x))


@pytest.mark.parametrize(("doubled", "written"), [(True, "2 * "), (False, "")])
def test_a_forward_that_is_chosen_among_methods(
    cut: Callable[..., Any], doubled: bool, written: str
) -> None:
    assert cut(Chosen(doubled), 3).forward.endswith(f"return {written}self.last(x)")


def test_a_method_of_what_is_no_tensor_is_refused(find: Callable[..., Any]) -> None:
    class Listed(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return x.chunk_of_mine(2)

    with pytest.raises(UnsupportedError, match=r"its forward calls \.chunk_of_mine of a tensor"):
        find(nn.Sequential(nn.Linear(3, 6), Listed()), (2, 3))


def test_a_list_that_is_handed_on_as_a_whole_is_written_as_one(cut: Callable[..., Any]) -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 5)

        def forward(self, outs: list[Tensor]) -> Tensor:
            return self.linear(torch.cat(outs, 1)) + outs[1].mean()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(3, 4)
            self.joined = Joined()
            self.last = nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.joined([self.a(x), self.b(x)]))

    text = cut(Net(), 3).text
    assert "torch.cat(outs, 1)" in text


class Told(nn.Module):
    """Is told whether it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, x: Tensor, training: bool, p: float = 0.1) -> Tensor:
        if training:
            x = x * 2
        return torch.dropout(self.fc(x), p, training)


class Telling(nn.Module):
    def __init__(self, by_name: bool) -> None:
        super().__init__()
        self.stem, self.told, self.last = nn.Linear(3, 6), Told(), nn.Linear(6, 2)
        self.by_name = by_name

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.by_name:
            return self.last(self.told(x, training=self.training))
        return self.last(self.told(x, self.training))


@pytest.mark.parametrize("by_name", [False, True])
def test_the_training_flag_may_be_handed_on(cut: Callable[..., Any], by_name: bool) -> None:
    result = cut(Telling(by_name), 3)
    assert "self.told(x)" in result.forward
    assert "if self.training:\n            x = x * 2" in result.text
    x = torch.rand(2, 3, dtype=torch.float64)
    told = result.small.get_submodule("told").train()
    with torch.no_grad():
        doubled = told.fc(x.new_ones(1, told.fc.in_features) * 2)
        assert torch.isclose(told(x.new_ones(64, told.fc.in_features)) * 0.9, doubled).any(0).all()
