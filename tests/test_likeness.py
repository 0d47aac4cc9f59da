"""True if a block has the layers that another makes."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from prunecore.plugin import is_like


class Doubled(nn.Linear):
    """Of the same options and tensors as its base."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Branches(nn.Module):
    def __init__(self, width: int = 4, eps: float = 0.1, inplace: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(3, width)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.other = nn.Linear(3, width)
        self.act = nn.ReLU(inplace)
        self.scale = nn.Parameter(torch.ones(width))


class Reordered(Branches):
    def __init__(self) -> None:
        super().__init__()
        self.act = self._modules.pop("act")


def changed(change: Callable[[Branches], object]) -> Branches:
    block = Branches()
    change(block)
    return block


def test_a_block_is_like_one_made_of_the_same() -> None:
    assert is_like(Branches(), Branches)
    assert is_like(Branches(5, 0.2, True).half(), lambda: Branches(5, 0.2, True))


def test_activations_may_stand_in_another_order() -> None:
    block = Branches()
    block.act, block._modules["linear"] = block._modules.pop("act"), block._modules.pop("linear")
    assert not is_like(block, Branches)  # the tensors of its state dict stand otherwise
    assert is_like(Reordered(), Branches)


@pytest.mark.parametrize(
    "change",
    [
        lambda block: setattr(block, "linear", Doubled(3, 4)),
        lambda block: setattr(block, "linear", nn.Linear(3, 4, bias=False)),
        lambda block: setattr(block, "linear", nn.Conv1d(3, 4, 1)),
        lambda block: setattr(block, "norm", nn.LayerNorm(4)),
        lambda block: setattr(block, "act", nn.ReLU(inplace=True)),
        lambda block: setattr(block, "more", nn.Identity()),
        lambda block: delattr(block, "act"),
        lambda block: setattr(block, "scale", nn.Parameter(torch.ones(5))),
        lambda block: setattr(block, "shift", nn.Parameter(torch.ones(4))),
        lambda block: setattr(block, "other", block.linear),
        lambda block: setattr(block.other, "bias", block.linear.bias),
    ],
)
def test_a_block_of_others_is_not(change: Callable[[Branches], object]) -> None:
    assert not is_like(changed(change), Branches)


def test_classes_may_stand_for_others() -> None:
    block = changed(lambda block: setattr(block, "linear", Doubled(3, 4)))
    assert is_like(block, Branches, {Doubled: nn.Linear})
    assert not is_like(Branches(), Branches, {nn.Linear: Doubled})


class Counted(Branches):
    made = 0

    def __init__(self, width: int, p: float, sizes: list[int] | None = None) -> None:
        super().__init__(width)
        self.drop = nn.Dropout(p)
        type(self).made += 1


def test_what_is_told_by_a_partial_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Counted, "made", 0)
    block = Counted(6, 0)
    for _ in range(3):
        assert is_like(block, functools.partial(Counted, 6, p=0))
    assert not is_like(block, functools.partial(Counted, 6, p=0.0))  # which it says otherwise
    assert Counted.made == 3
    for _ in range(2):
        assert is_like(block, functools.partial(Counted, 6, 0, [1]))
    assert Counted.made == 5
