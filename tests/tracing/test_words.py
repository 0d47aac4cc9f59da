"""Words that modules hand each other, alone or in lists, are known: as keys, and to branches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from torch import Tensor, nn

from prunecore import UnsupportedError


class Layer(nn.Module):
    def __init__(self, word: str = "") -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.word = word


class Saying(Layer):
    """Returns its word."""

    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        return self.linear(x), self.word


class More(Layer):
    """Returns more names and tensors than it is given, in the lists that it is given."""

    def forward(self, xs: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        names.append(self.word)
        xs.append(self.linear(xs[-1]))
        return xs, names


class Adding(Layer):
    """Adds a name to a list, which it does not return."""

    def forward(self, x: Tensor, names: list[str]) -> Tensor:
        names.append(self.word)
        return self.linear(x)


class Numbering(Layer):
    def forward(self, x: Tensor, numbers: list[int]) -> Tensor:
        numbers.append(x.shape[1])
        return self.linear(x)


class Activated(Layer):
    """Is given a tensor and a word together."""

    def forward(self, given: tuple[Tensor, str]) -> Tensor:
        x, word = given
        return self.linear(x).relu() if word == "relu" else self.linear(x).tanh()


class Named(Layer):
    """Names tensors as it is told to."""

    def forward(self, xs: Sequence[Tensor], names: Sequence[str]) -> dict[str, Tensor]:
        return OrderedDict(zip(names, map(self.linear, xs), strict=True))


class Net(nn.Module):
    def __init__(self, run: Callable[[Any, Tensor], Any], *children: nn.Module) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 6), nn.Linear(6, 2)
        self.inner = nn.ModuleList(children)
        self.run = run

    def forward(self, x: Tensor) -> Any:
        return self.last(self.run(self.inner, self.first(x)))


def by_word(inner: Sequence[nn.Module], x: Tensor) -> Tensor:
    found = {}
    for child in inner:
        y, word = child(x)
        found[word] = y.relu() if word == "high" else y
    return found["high"] + found["low"]


def of_lists(inner: Sequence[nn.Module], x: Tensor) -> Tensor:
    xs, names = inner[0]([x, x * 2], ["low", "high"])
    found = OrderedDict([(name, value) for name, value in zip(names, xs, strict=True)])
    return found["high"] + found["pool"]


def added(inner: Sequence[nn.Module], x: Tensor) -> Tensor:
    names: list[str] = []
    y = inner[0](x, names)
    return {names[0]: y}["pool"]


def told(inner: Sequence[nn.Module], x: Tensor) -> Tensor:
    found = inner[0]((x, x.relu()), ["low", "high"])
    return found["low"] + found["high"]


def told_otherwise(inner: Sequence[nn.Module], x: Tensor) -> Tensor:
    return told(inner, x) + inner[-1]((x, x), ["more", "high"])["more"]


def activated(inner: Sequence[nn.Module], x: Tensor) -> Tensor:
    y: Tensor = inner[0]((x, "relu")) + inner[-1]((x, "tanh"))
    return y


def numbered(inner: Sequence[nn.Module], x: Tensor) -> Tensor:
    numbers = [1]
    return inner[0](x, numbers) * len(numbers)


@pytest.mark.parametrize(
    ("run", "children"),
    [
        (by_word, [Saying("low"), Saying("high")]),
        (of_lists, [More("pool")]),
        (added, [Adding("pool")]),
        (told, [Named()]),
        (told_otherwise, [Named(), Named()]),
        (activated, [Activated(), Activated()]),
    ],
)
def test_words_are_known(cut: Callable[..., Any], run: Any, children: list[nn.Module]) -> None:
    cut(Net(run, *children), 3)


@pytest.mark.parametrize(("run", "child"), [(told_otherwise, Named()), (activated, Activated())])
def test_a_module_that_is_called_with_other_words(
    find: Callable[..., Any], run: Any, child: nn.Module
) -> None:
    with pytest.raises(UnsupportedError, match="does something else in the second call"):
        find(Net(run, child), (2, 3))


def test_a_list_that_is_given_numbers_is_not_read_as_it_was(find: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedError, match=r"it has inner\.0 change a list"):
        find(Net(numbered, Numbering()), (2, 3))
