"""Lists that forwards build, hand to submodules and change are followed as Python does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunecore import UnsupportedError
from prunecore.tracing.symbolic_trace import trace_level
from prunecore.verifying.masking import replaying


class Branches(nn.Module):
    """Sets the items of the list that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        for i, layer in enumerate(self.layers):
            xs[i] = layer(xs[i])
        return [xs[0] + xs[1], xs[1]]


class Scales(nn.Module):
    """A network of several scales, which asks what it was returned."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 6), nn.Linear(3, 6)
        self.branches = Branches()
        self.last = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        ys = self.branches([self.first(x), self.second(x)])
        y = ys[0] if isinstance(ys, list) and len(ys) == 2 else ys
        return self.last(y)


def test_a_submodule_sets_the_items_of_a_list(cut: Callable[..., Any]) -> None:
    result = cut(Scales(), 3)
    assert "self.branches([first, second])" in result.forward


def test_a_replayed_forward_hands_on_lists_that_can_be_changed() -> None:
    net, x = Scales().eval(), torch.rand(2, 3)
    graph = trace_level(net, "", {"x": x.to("meta")}).eval
    assert replaying(net, {frozenset(): [graph]}, {})(x).equal(net(x))


class Returning(nn.Module):
    """Returns a list, and perhaps what holds one."""

    def __init__(self, nested: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])
        self.nested = nested

    def forward(self, x: Tensor) -> Any:
        ys = [layer(x) for layer in self.layers]
        return {"ys": ys, "x": x} if self.nested else ys


def setting(ys: list[Tensor], layer: nn.Module) -> Tensor:
    ys[1] = layer(ys[0])
    return ys[0] - ys[1]


def appending(ys: list[Tensor], layer: nn.Module) -> Tensor:
    ys.append(layer(ys[-1]))
    ys.extend([y * 2 for y in ys])
    ys.insert(1, ys.pop())
    return ys[0] + ys[1] - ys[-1] if len(ys) == 6 else ys[0]


def joining(ys: list[Tensor], layer: nn.Module) -> Tensor:
    ys.pop(0)
    ys.append(layer(ys[0]))
    del ys[0]
    ys += [ys[0]]
    return torch.stack(ys).sum(0)


def sharing(ys: list[Tensor], layer: nn.Module) -> Tensor:
    both, zs = ys, ys.copy()
    ys += [layer(ys[0])]
    return both[2] + zs[-1]


class Changing(nn.Module):
    """Changes the list that a submodule returns."""

    def __init__(self, change: Callable[[Any, nn.Module], Tensor], nested: bool = False) -> None:
        super().__init__()
        self.stem, self.returning = nn.Linear(3, 6), Returning(nested)
        self.again, self.last = nn.Linear(6, 6), nn.Linear(6, 2)
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.change(self.returning(self.stem(x)), self.again))


@pytest.mark.parametrize("change", [setting, appending, joining, sharing])
def test_a_forward_changes_a_list_that_a_submodule_returns(
    cut: Callable[..., Any], change: Callable[[Any, nn.Module], Tensor]
) -> None:
    cut(Changing(change), 3)


def nested_list(held: dict[str, Any], layer: nn.Module) -> Tensor:
    ys = held["ys"]
    ys[0] = layer(ys[1])
    return ys[0] + held["ys"][0]


def item_of_a_dictionary(held: dict[str, Any], layer: nn.Module) -> Tensor:
    held["x"] = layer(held["x"])
    return held["x"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (nested_list, "it reads what holds a list that it has changed"),
        (item_of_a_dictionary, "it sets an item of what is no list or tensor"),
    ],
)
def test_a_change_that_cannot_be_followed_is_refused(
    find: Callable[..., Any], change: Callable[[Any, nn.Module], Tensor], reason: str
) -> None:
    with pytest.raises(UnsupportedError, match=f"{reason} "):
        find(Changing(change, nested=True), (2, 3))


class Reading(Scales):
    """Reads a list that it has given to a submodule."""

    def __init__(self, from_submodule: bool) -> None:
        super().__init__()
        self.returning = Returning()
        self.from_submodule = from_submodule

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        xs = self.returning(x) if self.from_submodule else [x, x * 2]
        return self.last(self.branches(xs)[0] + xs[0])


@pytest.mark.parametrize("from_submodule", [True, False])
def test_what_a_submodule_has_changed_cannot_be_read_from_the_list_that_it_was_given(
    find: Callable[..., Any], from_submodule: bool
) -> None:
    message = r"it reads a list that branches has changed .*\nLet the submodule return what it puts"
    with pytest.raises(UnsupportedError, match=message):
        find(Reading(from_submodule), (2, 3))


def test_a_list_that_a_submodule_only_reads_stays_what_it_was(cut: Callable[..., Any]) -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(12, 6)

        def forward(self, xs: list[Tensor]) -> Tensor:
            return self.linear(torch.cat(xs, 1))

    class Net(Reading):
        def __init__(self, from_submodule: bool) -> None:
            super().__init__(from_submodule)
            self.branches = Joined()

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            xs = self.returning(x) if self.from_submodule else [x, x * 2]
            return self.last(self.branches(xs) + xs[0])

    cut(Net(True), 3)
    cut(Net(False), 3)


def test_a_list_that_a_submodule_fills_is_refused(find: Callable[..., Any]) -> None:
    class Collecting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 6)

        def forward(self, x: Tensor, found: list[Tensor]) -> Tensor:
            found.append(x)
            return self.linear(x)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 6), nn.Linear(6, 2)
            self.inner = Collecting()

        def forward(self, x: Tensor) -> Tensor:
            found: list[Tensor] = []
            x = self.inner(self.first(x), found)
            return self.last(sum(found, x))

    with pytest.raises(UnsupportedError, match="it has inner change a list "):
        find(Net(), (2, 3))
