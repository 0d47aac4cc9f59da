"""Places taken by their number: every channel stays free, and the text takes the kept ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Variable

from prunecore.errors import UnsupportedError

WIDTH, SIZE = 8, 4


class One(nn.Module):
    """A function between two layers, with stored indices at hand."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.function = function
        self.register_buffer("index", torch.tensor([6, 1, 3, 1]))
        self.register_buffer("grid", torch.tensor([[0, 1], [3, 2]]))
        self.register_buffer("mask", torch.tensor([True, False] * 4))
        self.after = nn.Conv2d(function(torch.rand(2, WIDTH, SIZE, SIZE), self).shape[1], 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.function(self.before(x), self))


def swapped(parts: Any) -> Tensor:
    return torch.cat([parts[1], parts[0]], 1)


def unequal(x: Tensor, _: Any) -> Tensor:
    left, right = x.split([3, 5], dim=1)
    return torch.cat([right.relu(), left], 1)


def shuffled(x: Tensor, _: Any) -> Tensor:
    b, c, h, w = x.shape
    return x.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, c, h, w)


def shuffled_flat(x: Tensor, _: Any) -> Tensor:
    b, c, h, w = x.size()
    return x.view(b, 4, c // 4, h * w).permute(0, 2, 1, 3).reshape(b, -1, h, w)


def shuffled_twice(x: Tensor, net: Any) -> Tensor:
    return shuffled(torch.relu(shuffled_flat(x, net)), net)


FREE: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "slice": lambda x, _: x[:, :5],
    "slice_from": lambda x, _: x[:, 3:],
    "slice_negative": lambda x, _: x[:, -5:-1],
    "slice_symbolic": lambda x, _: x[:, : x.size(1) // 2],
    "slice_of_maps_symbolic": lambda x, _: x[:, :, x.size(2) // 2 :, : x.size(3) - 1 : 2],
    "slice_strided": lambda x, _: x[:, ::2],
    "slice_strided_from": lambda x, _: x[:, 1::3],
    "slice_with_maps": lambda x, _: x[:, 2:, ::2, 1:],
    "slice_after_dots": lambda x, _: x[..., 1:6, :, :],
    "slice_of_everything": lambda x, _: x[:, 0:],
    "slices_joined": lambda x, _: torch.cat([x[:, 5:], x[:, :5]], 1),
    "slices_that_overlap": lambda x, _: torch.cat([x[:, 2:], x[:, :6]], 1),
    "slices_added": lambda x, _: x[:, :4] + x[:, 4:],
    "list": lambda x, _: x[:, [5, 0, 2]],
    "list_repeating": lambda x, _: x[:, [1, 1, -1, 4]],
    "list_with_maps": lambda x, _: x[:, [7, 6, 1], 1:],
    "stored_index": lambda x, net: x[:, net.index],
    "stored_mask": lambda x, net: x[:, net.mask],
    "stored_grid_of_maps": lambda x, net: x[..., net.grid].flatten(3),
    "stored_grids_of_maps": lambda x, net: x[:, :, net.grid, net.grid],
    "computed_numbers_of_maps": lambda x, _: x[..., torch.arange(x.shape[3]) // 2],
    "index_select": lambda x, net: torch.index_select(x, 1, net.index),
    "index_select_of_detached": lambda x, net: x.index_select(1, Variable(net.index)),
    "index_select_by_name": lambda x, net: x.index_select(dim=1, index=net.index),
    "chunk": lambda x, _: swapped(x.chunk(2, 1)),
    "chunk_by_name": lambda x, _: swapped(torch.chunk(input=x, chunks=3, dim=1)),
    "chunk_from_the_end": lambda x, _: swapped(x.chunk(chunks=4, dim=-3)),
    "one_of_a_chunk": lambda x, _: x.chunk(2, 1)[1],
    "split": lambda x, _: swapped(torch.split(x, 3, 1)),
    "split_sizes": unequal,
    "tensor_split": lambda x, _: swapped(x.tensor_split(3, 1)),
    "tensor_split_at": lambda x, _: swapped(torch.tensor_split(x, (2, 5), dim=1)),
    "narrow": lambda x, _: x.narrow(1, 2, 5),
    "narrow_by_name": lambda x, _: torch.narrow(x, dim=1, start=1, length=6),
    "flip": lambda x, _: x.flip(1),
    "flip_with_maps": lambda x, _: torch.flip(x, [1, 2]),
    "roll": lambda x, _: torch.roll(x, 3, 1),
    "roll_back": lambda x, _: x.roll(shifts=-2, dims=1),
    "roll_of_maps": lambda x, _: x.roll((1, 2), (2, 3)),
    "repeat": lambda x, _: x.repeat(1, 2, 1, 1),
    "tile": lambda x, _: torch.tile(x, (3, 1, 2)),
    "repeat_interleave": lambda x, _: x.repeat_interleave(2, 1),
    "repeat_interleave_by_name": lambda x, _: torch.repeat_interleave(x, repeats=3, dim=1),
    "shuffle": shuffled,
    "shuffle_flat": shuffled_flat,
    "shuffle_twice": shuffled_twice,
    "shuffle_with_constants": lambda x, _: x.view(-1, 2, 4, SIZE, SIZE)
    .transpose(dim0=1, dim1=2)
    .reshape(-1, WIDTH, SIZE, SIZE),
    "channel_shuffle": lambda x, _: F.channel_shuffle(x, 4),
    "a_row_of_a_grid": lambda x, _: x.unflatten(1, (2, 4)).flatten(1, 2),
    "chunk_of_the_batch": lambda x, _: torch.cat(x.chunk(2), 0),
    "chunk_of_maps": lambda x, _: swapped(x.chunk(2, 3)),
    "unbind_maps": lambda x, _: torch.stack(x.unbind(3), -1),
    "select_of_maps": lambda x, _: x.select(3, 0)[..., None],
}  # fmt: skip


class Placed(nn.Module):
    """Adds rows of a table, looked up by numbers that are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(3, WIDTH), nn.Linear(WIDTH, 2)
        self.table = nn.Parameter(torch.randn(SIZE, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1]).expand(x.shape[0], -1)
        return self.after(self.before(x) + self.table[places])


def test_a_table_goes_with_what_its_rows_meet(cut: Callable[..., Any]) -> None:
    result = cut(Placed(), SIZE, 3)
    assert result.dependencies.left_whole == {}
    assert result.small.table.shape[1] == result.small.before.out_features < WIDTH


def test_places_that_are_computed_keep_what_they_take(cut: Callable[..., Any]) -> None:
    def taken(x: Tensor, _: Any) -> Tensor:
        return x[:, torch.arange(x.shape[2]) % WIDTH]

    result = cut(One(taken), 3, SIZE, SIZE)
    assert "numbers in a tensor" in result.dependencies.left_whole["before"]


def made(result: Any) -> Any:
    dependencies = result.dependencies
    return dependencies.axes[dependencies.layers["before"]]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", FREE)
def test_channels_stay_free(cut: Callable[..., Any], name: str, seed: int) -> None:
    result = cut(One(FREE[name]), 3, SIZE, SIZE, seed=seed)
    assert result.dependencies.removable[made(result)].all()
    assert result.dependencies.left_whole == {}
    if name != "slices_added":
        assert len(set(made(result).tolist())) == WIDTH


def test_places_that_meet_are_coupled(cut: Callable[..., Any]) -> None:
    result = cut(One(FREE["slices_added"]), 3, SIZE, SIZE)
    assert made(result).tolist() == [0, 1, 2, 3] * 2


# Parts of groups: what stays together with what.
GROUPS: dict[str, tuple[Callable[[Tensor, Any], Tensor], list[int]]] = {
    "unbind": (lambda x, _: torch.cat(x.unflatten(1, (4, 2)).unbind(1)[::-1], 1), [0, 1] * 4),
    "select": (lambda x, _: x.unflatten(1, (4, 2)).select(1, 2), [0, 1] * 4),
    "one": (lambda x, _: x.unflatten(1, (4, 2))[:, -1], [0, 1] * 4),
    "chunk": (
        lambda x, _: torch.cat(x.unflatten(1, (4, 2)).chunk(2, 1)[::-1], 1).flatten(1, 2),
        [0, 0, 1, 1, 2, 2, 3, 3],
    ),
    "slice": (
        lambda x, _: x.unflatten(1, (4, 2))[:, 1:].flatten(1, 2),
        [0, 0, 1, 1, 2, 2, 3, 3],
    ),
    "chunk_within": (
        lambda x, _: torch.cat(x.unflatten(1, (2, 4)).chunk(2, 2)[::-1], 2).flatten(1, 2),
        [0, 1, 2, 3] * 2,
    ),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", GROUPS)
def test_parts_of_groups_are_taken(cut: Callable[..., Any], name: str, seed: int) -> None:
    function, together = GROUPS[name]
    result = cut(One(function), 3, SIZE, SIZE, seed=seed)
    assert (made(result) - made(result).min()).tolist() == together
    assert result.dependencies.removable[made(result)].all()


# What is taken alone, or along several axes, stays.
HELD: dict[str, tuple[Callable[[Tensor, Any], Tensor], list[int]]] = {
    "one": (lambda x, _: x * x[:, 2].unsqueeze(1), [2]),
    "one_from_the_end": (lambda x, _: x[:, -1, None] + x.select(1, 3)[:, None], [3, 7]),
    "a_slice_of_one": (lambda x, _: x * x[:, 4:5], [4]),
    "all_one_by_one": (lambda x, _: torch.stack(x.unbind(1), 1), list(range(WIDTH))),
    "by_a_stored_grid": (lambda x, net: x[:, net.grid].flatten(1, 2), list(range(WIDTH))),
    "along_two_axes": (lambda x, _: x.roll((1, 1), (1, 2)), list(range(WIDTH))),
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", HELD)
def test_what_is_taken_alone_stays(cut: Callable[..., Any], name: str, seed: int) -> None:
    function, held = HELD[name]
    result = cut(One(function), 3, SIZE, SIZE, seed=seed)
    removable = result.dependencies.removable[made(result)]
    assert (~removable).nonzero()[0].tolist() == held


def test_a_part_never_goes_as_a_whole(find: Callable[..., Any]) -> None:
    from prunecore.planning.plan import make_plan

    net = One(lambda x, _: swapped(x.chunk(2, 1)))
    dependencies = find(net, (2, 3, SIZE, SIZE))
    plan = make_plan(dependencies, np.arange(dependencies.count, dtype=float), 62.5, "channels")
    channels = dependencies.axes[dependencies.layers["before"]]
    assert plan.kept[channels[:4]].tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x, _: x[x > 0], "indexes a tensor with a tensor"),
        (lambda x, _: x[x], r"floating point numbers(.|\n)*--input 'tokens:int64\[128\]<2'"),
        (lambda x, _: x[:, [0, 1], [0, 1]], r"indexes a tensor with .*\[0, 1\]"),
        (lambda x, _: x.index_select(1, x.mean((0, 2, 3)).long()), "numbers that it computes"),
    ],
)
def test_numbers_that_are_computed_are_refused(
    find: Callable[..., Any], function: Any, reason: str
) -> None:
    net = One(lambda x, _: x)
    net.function = function
    with pytest.raises(UnsupportedError, match=reason):
        find(net, (2, 3, SIZE, SIZE))


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda x: x[:, :, x.size(2) // 2 :], "[:, :, x.size(2) // 2 :]"),
        (lambda x: x[:, :, : x.size(2) - 1, 1:-1], "[:, :, : x.size(2) - 1, 1:-1]"),
        (lambda x: x[:, :, 0 : x.size(2) : 2, ::2], "[:, :, 0 : x.size(2) : 2, ::2]"),
        (lambda x: x[..., :: x.size(2) - 2], "[..., :: x.size(2) - 2]"),
        (lambda x: x[:, :, x.size(2) - 3 :: 2], "[:, :, x.size(2) - 3 :: 2]"),
    ],
)
def test_slices_are_written_as_ruff_has_them(
    cut: Callable[..., Any], check_style: Callable[..., None], function: Any, text: str
) -> None:
    result = cut(One(lambda x, _: function(x)), 3, SIZE, SIZE)
    assert text in result.forward
    check_style([result.text])
