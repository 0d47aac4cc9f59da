"""Which forwards of a network are written once for several blocks."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor, nn

from prunecore.channels.keep import Keep
from prunecore.plugins.builtin import prunecore_functions
from prunecore.writing.forwards.likeness import likeness
from prunecore.writing.passes.variants import unify


class Block(nn.Module):
    """A layer, a number of its own, and what else it does."""

    def __init__(
        self, inner: nn.Module, factor: float = 1.0, then: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.inner, self.factor = inner, factor
        self.then = then

    def forward(self, x: Tensor) -> Tensor:
        out = self.inner(x) * self.factor
        return out if self.then is None else self.then(out)


def keys(find: Callable[..., Any], *blocks: nn.Module) -> list[Hashable]:
    """What tells the forwards of blocks that come one after the other."""
    network = nn.Sequential(*blocks)
    found = find(network, (2, 6))
    keep = Keep(network, found, found.removable)
    variants = unify(found.forwards.traces)
    return [
        likeness(variants[str(place)], keep, prunecore_functions()) for place in range(len(blocks))
    ]


def test_equal_blocks_of_other_widths(find: Callable[..., Any]) -> None:
    """Their texts are the same: widths stand in the constructor."""
    first, second = keys(find, Block(nn.Linear(6, 8), 0.5), Block(nn.Linear(8, 4), 0.5))
    assert first == second
    assert first is not None


def test_other_numbers_of_their_own(find: Callable[..., Any]) -> None:
    """In a slice they are written as they are, and not as attributes."""

    class First(nn.Module):
        def __init__(self, count: int) -> None:
            super().__init__()
            self.inner, self.count = nn.Linear(6, 6), count

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)[: self.count]

    assert len(set(keys(find, First(1), First(2)))) == 2
    assert len(set(keys(find, Block(nn.Linear(6, 6), 0.5), Block(nn.Linear(6, 6), 0.25)))) == 2


def test_what_a_child_is_called_under(find: Callable[..., Any]) -> None:
    """The text of a `with` block is written for each forward."""

    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return self.inner(x)  # type: ignore[no-any-return]

    assert keys(find, Frozen()) == [None]


def test_a_layer_with_children_in_the_place_of_one_without(find: Callable[..., Any]) -> None:
    """A statement ends before what has children."""
    first, second = keys(find, Block(nn.Linear(6, 8)), Block(nn.Sequential(nn.Linear(8, 4))))
    assert first != second


def test_other_calls_and_numbers_in_them(find: Callable[..., Any]) -> None:
    """What is written differs."""
    found = keys(
        find,
        Block(nn.Linear(6, 6)),
        Block(nn.Linear(6, 6), then=torch.relu),
        Block(nn.Linear(6, 6), then=lambda x: x + 1),
        Block(nn.Linear(6, 6), then=lambda x: x + 1.0),
    )
    assert len(set(found)) == 4


def test_sizes_that_count_channels(find: Callable[..., Any]) -> None:
    """A forward with kept widths in it is written for each block."""

    def grouped(x: Tensor) -> Tensor:
        return x.view(-1, 2, 3).flatten(1)

    assert keys(find, Block(nn.Linear(6, 6), then=grouped)) == [None]
