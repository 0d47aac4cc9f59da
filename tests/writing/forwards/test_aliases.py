"""What shares memory, and is changed in place, does so in the written network, too."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from prunecore.errors import UnsupportedError
from prunecore.functions.rule import FunctionRule, elementwise
from prunecore.plugin import hookimpl
from prunecore.plugins.loading import register
from prunecore.registry import Plugins
from prunecore.walking.network import find_dependencies

REASON = "what a function takes of it shares its memory or does not, and one is changed in place"


class Adds(nn.Module):
    """Writes to what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        x.add_(1.5)
        return x.sigmoid()


class AddsToSome(nn.Module):
    """Writes to every second place of what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        x[:, ::2].mul_(2)
        return x.sigmoid()


class Some(nn.Module):
    """Returns a view of what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, ::2]


class Net(nn.Module):
    """A function between layers of eight places and of four."""

    def __init__(self, function: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.other = nn.Linear(4, 2)
        self.adds, self.adds_to_some, self.some = Adds(), AddsToSome(), Some()
        self.relu, self.drop = nn.ReLU(inplace=True), nn.Dropout(0.5)
        self.in_a_row = nn.Sequential(Some(), nn.ReLU(inplace=True))
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, self.first(x))


def a_part_changed(net: Any, y: Tensor) -> Any:
    y[:, ::2].add_(1.5)
    return net.last(y)


def a_part_multiplied(net: Any, y: Tensor) -> Any:
    part = y[:, ::2]
    part *= 2.0
    return net.last(y)


def a_part_through_a_function(net: Any, y: Tensor) -> Any:
    F.relu(y[:, ::2], inplace=True)
    return net.last(y)


def a_part_given_as_out(net: Any, y: Tensor) -> Any:
    part = y[:, ::2]
    torch.mul(part, 2.5, out=part)
    return net.last(y)


def a_part_filled(net: Any, y: Tensor) -> Any:
    part = y[:, 1::2]
    part.masked_fill_(part < 0.1, 0.5)
    return net.last(y)


def the_whole_changed(net: Any, y: Tensor) -> Any:
    part = y[:, ::2]
    y.add_(1.5)
    return net.other(part)


def of_two_parts_one(net: Any, y: Tensor) -> Any:
    one, two = y[:, ::2], y[:, :4]
    one.add_(1.5)
    return net.other(one) + net.other(two)


def a_child_writes(net: Any, y: Tensor) -> Any:
    return net.other(net.adds(y[:, ::2])) + net.last(y)


def a_layer_writes(net: Any, y: Tensor) -> Any:
    return net.other(net.relu(y[:, ::2])) + net.last(y)


def a_child_writes_to_a_part(net: Any, y: Tensor) -> Any:
    return net.last(net.adds_to_some(y)) + net.last(y)


def a_child_returns_a_part(net: Any, y: Tensor) -> Any:
    return net.other(net.some(y).add_(1.5)) + net.last(y)


def children_in_a_row(net: Any, y: Tensor) -> Any:
    return net.other(net.in_a_row(y)) + net.last(y)


def through_a_layer_that_returns_its_input(net: Any, y: Tensor) -> Any:
    net.drop(y[:, ::2]).add_(1.5)
    return net.last(y)


def a_copy_changed(net: Any, y: Tensor) -> Any:
    part = y[:, [0, 2, 4, 6]]
    part.add_(1.5)
    return net.other(part) + net.last(y)


def a_copy_of_places_in_a_row(net: Any, y: Tensor) -> Any:
    part = y[:, [0, 1, 2, 3]]
    y.add_(1.5)
    return net.other(part) + net.last(y)


def another_order_changed(net: Any, y: Tensor) -> Any:
    other = y[:, [1, 0, 2, 3, 4, 5, 6, 7]]
    other.add_(1.5)
    return net.last(other) + net.last(y)


def a_shuffle_changed(net: Any, y: Tensor) -> Any:
    other = y.view(-1, 2, 4).transpose(1, 2).reshape(-1, 8)
    other.add_(1.5)
    return net.last(other) + net.last(y)


def changed_before_a_shuffle_ends(net: Any, y: Tensor) -> Any:
    other = y.view(-1, 2, 4).transpose(1, 2).contiguous()
    y.add_(1.5)
    return net.last(other.view(-1, 8)) + net.last(y)


def changed_within_a_shuffle(net: Any, y: Tensor) -> Any:
    other = y.view(-1, 2, 4).transpose(1, 2).contiguous()
    other.add_(1.5)
    return net.last(other.view(-1, 8)) + net.last(y)


def a_part_in_order(net: Any, y: Tensor) -> Any:
    part = y[:, :4].contiguous()
    part.add_(1.5)
    return net.other(part) + net.last(y)


def of_a_part_in_order_itself(net: Any, y: Tensor) -> Any:
    part = y[:, [0, 2, 4, 6]]
    part.contiguous().add_(1.5)
    return net.other(part) + net.last(y.sin())


@pytest.mark.parametrize(
    "function",
    [
        a_part_changed,
        a_part_multiplied,
        a_part_through_a_function,
        a_part_given_as_out,
        a_part_filled,
        the_whole_changed,
        of_two_parts_one,
        a_child_writes,
        a_layer_writes,
        a_child_writes_to_a_part,
        a_child_returns_a_part,
        children_in_a_row,
        through_a_layer_that_returns_its_input,
        a_shuffle_changed,
        changed_before_a_shuffle_ends,
        changed_within_a_shuffle,
        a_part_in_order,
        of_a_part_in_order_itself,
    ],
)
def test_what_is_seen_of_a_change_is_left_whole(
    cut: Callable[..., Any], function: Callable[[Any, Tensor], Any]
) -> None:
    for seed in range(6):
        result = cut(Net(function), 3, seed=seed, share=(0.3, 0.5, 0.75)[seed % 3])
        assert result.dependencies.left_whole == {"first": REASON}


def halves(net: Any, y: Tensor) -> Any:
    one, two = y.chunk(2, 1)
    F.relu(one, inplace=True)
    two *= 2.0
    return net.last(y)


def half_of_the_whole(net: Any, y: Tensor) -> Any:
    one = y[:, 4:]
    y.add_(1.5)
    return net.other(one)


def parts_of_several_sizes(net: Any, y: Tensor) -> Any:
    one, two, _ = y.split([3, 3, 2], 1)
    two.mul_(2)
    one.add_(1)
    return net.last(y)


def a_place(net: Any, y: Tensor) -> Any:
    y[:, 3].add_(1.5)
    return net.last(y)


def parts_that_share_no_place(net: Any, y: Tensor) -> Any:
    one, two = y[:, ::2], y[:, 1::2]
    one.add_(1.5)
    return net.other(one) + net.other(two)


def a_part_alone(net: Any, y: Tensor) -> Any:
    return net.other(net.relu(y[:, ::2]))


def a_shuffle_alone(net: Any, y: Tensor) -> Any:
    return net.last(net.relu(y.view(-1, 2, 4).transpose(1, 2).reshape(-1, 8)))


def a_clone(net: Any, y: Tensor) -> Any:
    part = y[:, ::2].clone()
    part.add_(1.5)
    return net.other(part) + net.last(y)


def before_it_is_taken(net: Any, y: Tensor) -> Any:
    y.add_(1.5)
    return net.other(y[:, ::2]) + net.last(y)


def a_view_of_all(net: Any, y: Tensor) -> Any:
    y.view(-1, 2, 4)[:, 0].add_(1.5)
    return net.last(y)


@pytest.mark.parametrize(
    "function",
    [
        halves,
        half_of_the_whole,
        parts_of_several_sizes,
        a_place,
        parts_that_share_no_place,
        a_part_alone,
        a_shuffle_alone,
        a_clone,
        before_it_is_taken,
        a_view_of_all,
        a_copy_changed,
        a_copy_of_places_in_a_row,
        another_order_changed,
    ],
)
def test_what_stays_as_it_is_or_is_not_seen_is_cut(
    cut: Callable[..., Any], function: Callable[[Any, Tensor], Any]
) -> None:
    for seed in range(6):
        result = cut(Net(function), 3, seed=seed, share=(0.3, 0.5, 0.75)[seed % 3])
        assert result.dependencies.left_whole == {}


def test_a_copy_stays_one_where_all_that_stays_lies_in_order(cut_to: Callable[..., Any]) -> None:
    def function(net: Any, y: Tensor) -> Any:
        rolled = y.roll(2, 1)
        rolled.add_(1.5)
        return net.last(rolled) + net.adds(net.second(y)[:, :2])

    kept = {"first": [0, 1, 2, 3, 4, 5]}
    result = cut_to(Net(function), kept, 3)
    assert "self.order" in result.forward
    assert result.small.first.out_features == 6


def test_a_copy_whose_original_gradients_do_not_need_stays_one(cut_to: Callable[..., Any]) -> None:
    def function(net: Any, y: Tensor) -> Any:
        part = net.other(y[:, [0, 1, 2, 6]])
        return part * net.relu(y).sum()

    result = cut_to(Net(function), {"first": [0, 1, 2, 4, 5]}, 3)
    assert "self.order" in result.forward
    inputs = torch.rand(2, 3, dtype=torch.float64)
    result.small.train()(inputs).sum().backward()


def test_a_copy_that_training_alone_changes_stays_one(cut: Callable[..., Any]) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.other, self.last = nn.Linear(3, 8), nn.Linear(4, 2), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            part = x[:, [0, 1, 2, 3]]
            if self.training:
                part.add_(1.5)
            return self.last(x) + self.other(part)

    result = cut(Block(), 3)
    assert result.dependencies.left_whole == {}
    assert "self.order" in result.forward


def test_what_is_returned_is_read(cut: Callable[..., Any]) -> None:
    def function(net: Any, y: Tensor) -> Any:
        z = net.second(y)
        part = z[:, ::2]
        z.add_(1.5)
        return net.other(part), net.last(y)

    assert cut(Net(function), 3).dependencies.left_whole == {"second": REASON}


def test_all_instances_of_a_class_are_left_whole_where_one_is(cut: Callable[..., Any]) -> None:
    class Block(nn.Module):
        def __init__(self, step: int) -> None:
            super().__init__()
            self.layer, self.after, self.step = nn.Linear(8, 8), nn.Linear(8, 8), step

        def forward(self, x: Tensor) -> Tensor:
            x = self.layer(x)
            x[:, 0 : 4 * self.step : self.step].mul_(2)
            return self.after(x)

    model = nn.Sequential(nn.Linear(3, 8), Block(1), Block(2), nn.Linear(8, 2))
    for seed in range(4):
        whole = cut(model, 3, seed=seed).dependencies.left_whole
        assert whole == {"1.layer": REASON, "2.layer": REASON}


def test_training_alone_changes_what_is_shared(find: Callable[..., Any]) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            part = x[:, ::2]
            if self.training:
                part.add_(1.5)
            return self.last(x)

    assert find(Block(), (2, 3)).left_whole == {"first": REASON}


def test_other_sizes_alone_change_what_is_shared(find: Callable[..., Any]) -> None:
    def function(net: Any, y: Tensor) -> Any:
        if y.shape[1] > 2:
            y[..., ::2].add_(1.5)
        return net.last(y)

    assert find(Net(function), (2, 2, 3)).left_whole == {"first": REASON}
    assert find(Net(function), (2, 3, 3)).left_whole == {"first": REASON}


def test_a_copy_that_other_sizes_alone_change_stays_one(cut_to: Callable[..., Any]) -> None:
    def function(net: Any, y: Tensor) -> Any:
        part = y[..., [0, 1, 2, 3]]
        if y.shape[1] > 2:
            y.add_(1.5)
        return net.other(part) + net.last(y)

    result = cut_to(Net(function), {"first": [0, 1, 2, 5]}, 2, 3)
    assert "self.order" in result.forward


def into_another(net: Any, y: Tensor) -> Any:
    z = net.second(y)
    torch.add(y, 1.5, out=z)
    return net.last(z)


def test_a_function_writes_into_a_tensor(cut: Callable[..., Any]) -> None:
    result = cut(Net(into_another), 3)
    assert "torch.add(y, 1.5, out=z)" in result.forward
    assert result.dependencies.left_whole == {}


def test_a_function_writes_into_a_tensor_of_another_shape(find: Callable[..., Any]) -> None:
    def function(net: Any, y: Tensor) -> Any:
        z = net.other(y[:, :4])
        torch.add(y, 1.5, out=z)
        return z

    with pytest.raises(UnsupportedError, match="lets add write into what is no tensor of that"):
        find(Net(function), (2, 3))


def by_numbers(x: Tensor) -> Tensor:
    """Asks for the numbers in a tensor, which none without storage can tell."""
    return x * (1.0 if float(x.sum()) > 0 else 2.0)


fx.wrap("by_numbers")


class Asking(nn.Module):
    """Calls a function that asks for numbers, and may change a tensor in place."""

    def __init__(self, changes: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(4, 2)
        self.changes = changes

    def forward(self, x: Tensor) -> Tensor:
        y = by_numbers(self.first(x))
        if self.changes:
            y.add_(1.5)
        return self.last(y[:, ::2]) + self.last(y[:, 4:])


@pytest.mark.parametrize("changes", [False, True])
def test_what_is_changed_is_not_known_where_numbers_are_asked_for(
    toys: Plugins, changes: bool
) -> None:
    rules = {by_numbers: FunctionRule(elementwise)}
    given = SimpleNamespace(prunecore_functions=hookimpl(lambda: rules))
    plugins = Plugins([*toys.all, register(given, "given", "given 1")])
    found = find_dependencies(Asking(changes), [torch.empty(2, 3, device="meta")], plugins)
    reason = "a function takes places of it, and what is changed in place is not known"
    assert found.left_whole == ({"first": reason} if changes else {})
