"""One forward for all instances of a class, where some lack a child that others have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunecore.writing.passes.variants import unify


class Block(nn.Module):
    """A residual block with a shortcut, and perhaps an activation."""

    def __init__(self, inputs: int, outputs: int, shortcut: bool, act: bool = True) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)
        if act:
            self.act = nn.ReLU()
        else:
            self.act = None
        self.shortcut = nn.Linear(inputs, outputs) if shortcut else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer(x)
        if self.act is not None:
            out = self.act(out)
        identity = x
        if self.shortcut is not None:
            identity = self.shortcut(x)
        return out + identity


def variants(find: Callable[..., Any], *blocks: nn.Module) -> Any:
    return unify(find(nn.Sequential(nn.Linear(3, 6), *blocks), (2, 3)).forwards.traces)


def test_instances_that_lack_nothing_are_written_as_they_are(find: Callable[..., Any]) -> None:
    found = variants(find, Block(6, 6, True), Block(6, 6, True))
    assert all(not variant.optional for variant in found.values())
    assert found["1"].children == ("layer", "act", "shortcut")


def test_an_instance_without_a_child_is_one_that_passes_its_input(
    find: Callable[..., Any],
) -> None:
    found = variants(find, Block(6, 6, True), Block(6, 6, False))
    assert found["1"].optional == found["2"].optional == {"shortcut"}
    assert found["1"].trace.graph is found["2"].trace.graph
    assert found["2"].children == ("layer", "act", "shortcut")
    assert found["2"].trace.module.shortcut is None  # its own widths count


def test_all_instances_may_lack_it(find: Callable[..., Any], cut: Callable[..., Any]) -> None:
    found = variants(find, Block(6, 6, False), Block(6, 6, False))
    assert all(not variant.optional for variant in found.values())
    model = nn.Sequential(nn.Linear(3, 6), Block(6, 6, False), Block(6, 6, False), nn.Linear(6, 2))
    assert "shortcut" not in cut(model, 3).text


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_different_instances_may_lack_different_children(
    cut: Callable[..., Any], order: tuple[int, ...]
) -> None:
    blocks = [Block(6, 6, True), Block(6, 6, False), Block(6, 6, True, act=False)]
    chosen = [blocks[number] for number in order]
    result = cut(nn.Sequential(nn.Linear(3, 6), *chosen, nn.Linear(6, 2)), 3)
    assert result.text.count("class Block") == 1
    for number, place in enumerate(order, start=1):
        small = result.small[number]
        assert (small.act is None) is (place == 2)
        assert (small.shortcut is None) is (place == 1)


def test_the_fullest_instance_may_lack_a_child_that_another_has(cut: Callable[..., Any]) -> None:
    """Neither has all children, so that they are two classes, and right."""
    blocks = [Block(6, 6, False), Block(6, 6, True, act=False)]
    cut(nn.Sequential(nn.Linear(3, 6), *blocks, nn.Linear(6, 2)), 3)


def test_instances_that_differ_in_more_are_classes_of_their_own(
    find: Callable[..., Any], cut: Callable[..., Any]
) -> None:
    class Scaled(Block):
        def __init__(self, *arguments: Any, factor: int) -> None:
            super().__init__(*arguments)
            self.factor = factor

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * (self.factor + 1)

    blocks = [Scaled(6, 6, True, factor=2), Scaled(6, 6, False, factor=3)]
    found = variants(find, *blocks)
    assert not found["1"].optional
    assert not found["2"].optional
    result = cut(nn.Sequential(nn.Linear(3, 6), *blocks, nn.Linear(6, 2)), 3)
    assert "class Scaled2(" in result.text


def test_instances_may_differ_in_a_number_and_lack_a_child(cut: Callable[..., Any]) -> None:
    class Scaled(Block):
        def __init__(self, *arguments: Any, factor: int) -> None:
            super().__init__(*arguments)
            self.factor = factor

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.factor

    blocks = [Scaled(6, 6, True, factor=2), Scaled(6, 6, False, factor=3)]
    result = cut(nn.Sequential(nn.Linear(3, 6), *blocks, nn.Linear(6, 2)), 3)
    assert result.text.count("class Scaled") == 1
    assert [result.small[1].factor, result.small[2].factor] == [2, 3]


def test_a_child_that_changes_what_it_passes_on_is_followed(cut: Callable[..., Any]) -> None:
    model = nn.Sequential(Block(3, 6, True), Block(6, 6, False), Block(6, 8, True), nn.Linear(8, 2))
    for seed in range(3):
        result = cut(model, 3, seed=seed)
        assert "x if self.shortcut is None else self.shortcut(x)" in result.text


class Dense(nn.Module):
    """Each layer reads all that the earlier ones made."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        for number in range(layers):
            self.add_module(f"layer{number}", Gathering(6 * (number + 1), 6))

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.children():
            features.append(layer(features))
        return features[-1]


class Gathering(nn.Module):
    """Reads a list of tensors."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.layer(torch.cat(features, 1))


def test_a_child_that_reads_a_list_stands_for_no_input(
    find: Callable[..., Any], cut: Callable[..., Any]
) -> None:
    found = variants(find, Dense(2), Dense(3))
    assert found["1"].trace is not found["2"].trace
    assert found["1"].optional == frozenset()
    cut(nn.Sequential(nn.Linear(3, 6), Dense(2), Dense(3), nn.Linear(6, 2)), 3)


class Stage(nn.Module):
    """As many children as there are layers, none of them named where there is none."""

    def __init__(self, count: int) -> None:
        super().__init__()
        for number in range(count):
            self.add_module(f"layer{number}", nn.Linear(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x


def test_an_instance_may_have_fewer_children_by_name(cut: Callable[..., Any]) -> None:
    cut(nn.Sequential(nn.Linear(3, 6), Stage(2), Stage(1), nn.Linear(6, 2)), 3)
