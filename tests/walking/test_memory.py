"""Layers that only read what they are given, and make a new tensor of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prunecore.walking.memory import Memory, makes_new, overlap, place

SHAPES: dict[type[nn.Module], tuple[int, ...]] = {
    **dict.fromkeys((nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d), (2, 4, 6)),
    **dict.fromkeys((nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d), (2, 4, 6, 6)),
    **dict.fromkeys((nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d), (2, 4, 6, 6, 6)),
    **dict.fromkeys((nn.Linear, nn.LayerNorm, nn.GroupNorm), (2, 6, 4)),
}


def made(kind: type[nn.Module]) -> nn.Module:
    name = kind.__name__
    if "Conv" in name:
        return kind(4, 4, 1)
    return kind(2, 6) if name == "GroupNorm" else kind(4, 4) if name == "Linear" else kind(4)


def only_reads(layer: nn.Module, x: Tensor) -> bool:
    """True if a layer, when it is run, writes nothing that is there before, and returns none."""
    given = [x, *layer.parameters(), *layer.buffers()]
    with torch.no_grad(), Memory() as memory:
        result = layer(x)
    written = [one for tensor in given for one in memory.accesses(tensor, -1) if one.is_write]
    return not written and place(result) not in map(place, given)


@pytest.mark.parametrize("kind", SHAPES)
def test_what_makes_new_tensors_does(kind: type[nn.Module]) -> None:
    layer = made(kind).to("meta").eval()
    x = torch.empty(SHAPES[kind], device="meta")
    assert makes_new(layer)
    assert only_reads(layer, x)
    assert only_reads(layer, x.transpose(0, 1).contiguous().transpose(0, 1))


def test_statistics_are_written_in_training() -> None:
    layer = nn.BatchNorm2d(4).to("meta")
    assert not makes_new(layer)
    assert not only_reads(layer, torch.empty(2, 4, 6, 6, device="meta"))
    assert makes_new(nn.BatchNorm2d(4, track_running_stats=False))


X = torch.empty(2, 4, 6, 6, device="meta")


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)],
        [nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Hardswish(inplace=True)],
        [nn.Identity(), nn.Conv2d(4, 4, 1), nn.Identity()],
    ],
)
def test_layers_in_a_row_are_as_new_as_the_first_that_makes_one(layers: list[nn.Module]) -> None:
    row = nn.Sequential(*layers).to("meta").eval()
    assert makes_new(row)
    assert only_reads(row, X)


@pytest.mark.parametrize(
    "layers",
    [[nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1)], [nn.Identity()], [nn.SiLU(inplace=True)], []],
)
def test_what_changes_or_returns_its_input_makes_none(layers: list[nn.Module]) -> None:
    row = nn.Sequential(*layers).to("meta").eval()
    assert not makes_new(row)
    assert not only_reads(row, X)


VIEWS = [
    X,
    X[:1],
    X[1:],
    X[:, ::2],
    X[:, 1::2],
    X[:, :, 2:4],
    X[..., 0],
    X[..., 1:],
    X.transpose(1, 2),
    X.transpose(0, 3)[2:3],
    X[:, :1].expand(2, 3, 6, 6),
    X[0, 0, 0, :0],
    X.flatten()[::7],
    X.flatten()[3::7],
]


def elements(view: Tensor) -> set[int]:
    """Which elements of `X` a view of it has."""
    numbers = torch.arange(X.numel()).as_strided(view.shape, view.stride(), view.storage_offset())
    return set(numbers.flatten().tolist())


@pytest.mark.parametrize("first", range(len(VIEWS)))
def test_tensors_overlap_that_have_elements_in_common(first: int) -> None:
    one = VIEWS[first]
    for other in VIEWS:
        assert overlap(one, other) == bool(elements(one) & elements(other))
