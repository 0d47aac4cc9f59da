"""Functions of Python and NumPy do with sizes and tensors what they do with the real ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Variable
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from prunecore import UnsupportedError
from prunecore.tracing.stand_ins.asked import answering, length_of, range_of


class Net(nn.Module):
    def __init__(self, between: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)
        self.inner = nn.Sequential(nn.Conv2d(6, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 1))
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.inner, self.first(x)))


def rows(_: nn.Module, x: Tensor) -> Tensor:
    parts = [x[:, :, i : i + 1] * (i + 1) for i in range(x.size(2))]
    return torch.cat(parts, 2)


def unless_odd(_: nn.Module, x: Tensor) -> Tensor:
    odd = np.array(x.shape[2:]) % np.power([2, 2], 1) > 0
    return x * 3 if odd.any() else x * 2


def doubled(inner: nn.Module, x: Tensor) -> Tensor:
    return inner(x) * 2  # type: ignore[no-any-return]


BETWEEN = [
    (lambda _, x: x.flatten(1).view(len(x), -1, 4, 4), ".view(len(x), -1, 4, 4)"),
    (lambda _, x: x / len(x), "/ len(x)"),
    (lambda _, x: x * len([x]) / len(x.shape), "* 1 / 4"),
    (lambda _, x: x * len(x[0]), "x = self.first(x) * 6"),
    (lambda _, x: x * {4: 2.0}.get(x.size(2), 3.0), "x * 2.0 if h == 4 else x * 3.0"),
    (lambda _, x: x * {5: 2.0}.get(x.size(2), 3.0), "torch._assert(x.size(2) == 4, "),
    (lambda _, x: x * {"4": 2.0}.get(str(x.size(2)), 3.0), "torch._assert(x.size(2) == 4, "),
    (lambda _, x: x * float(f"{x.size(2):d}"), "torch._assert(x.size(2) == 4, "),
    (lambda _, x: x * len({x.size(2), 4}), "x * 1 if h == 4 else x * 2"),
    (lambda _, x: x * (2.0 if isinstance(x.size(2), int) else 3.0), "x = self.first(x) * 2.0"),
    (lambda _, x: x / x.shape[2:].numel(), "/ (h * w)"),
    (rows, "x[:, :, 3:4] * 4"),
    (lambda _, x: F.adaptive_avg_pool2d(x, range(1, x.size(2))[-1]), ".adaptive_avg_pool2d(x, 3)"),
    (lambda _, x: F.interpolate(x, size=int(np.ceil(x.size(2) / 3))), "size=2)"),
    (lambda _, x: F.interpolate(x, size=(np.floor(x.size(2) / 2).astype(int), 3)), "size=(2, 3)"),
    (lambda _, x: x.flatten(2).unflatten(2, (int(np.sqrt(x.size(2) * 4)), 4)), "(2, (4, 4))"),
    (lambda _, x: x.view(-1, 6, np.prod(x.shape[2:])).view_as(x), "(-1, 3, h * w)"),
    (lambda _, x: x / int(np.prod(x.shape[2:])), "/ 16"),
    (lambda _, x: x / math.sqrt(x.size(2)), "/ math.sqrt("),
    (lambda _, x: x * (np.float64(2) / x.size(2)), "(2.0 / x.size(2))"),
    (lambda _, x: x * (np.int64(3) + x.size(2)), "(3 + x.size(2))"),
    (unless_odd, "out = x * 3 if mod > 0 or mod2 > 0 else x * 2"),
    (lambda _, x: torch.as_tensor(x) * 2, "x = self.first(x) * 2"),
    (lambda _, x: torch.as_tensor(x, dtype=x.dtype) * 2, ".to(dtype=x.dtype)"),
    (lambda _, x: Variable(x) * 2, ".detach() * 2"),
    (lambda _, x: x.clamp(min=torch.finfo(x.dtype).eps), "torch.finfo(x.dtype).eps"),
    (lambda _, x: x + torch.iinfo(torch.int8).max, "+ 127"),
    (lambda inner, x: checkpoint(inner, x, use_reentrant=False), "x = self.inner(x)"),
    (lambda inner, x: checkpoint(doubled, inner, x, use_reentrant=False), "self.inner(x) * 2"),
    (
        lambda inner, x: checkpoint_sequential(inner, 2, x, use_reentrant=False),
        "for layer in self.inner",
    ),
]


@pytest.mark.parametrize(("between", "text"), BETWEEN)
def test_what_asks_for_numbers_is_followed(
    cut: Callable[..., Any], between: Callable[[nn.Module, Tensor], Tensor], text: str
) -> None:
    result = cut(Net(between), 3, 4, 4)
    assert text in result.forward
    assert result.keep.dependencies.removable.any()


def test_numbers_are_those_of_the_size_that_is_given(cut: Callable[..., Any]) -> None:
    small = cut(Net(rows), 3, 4, 4).small
    with pytest.raises(AssertionError, match="written for inputs of another size"):
        small(torch.rand(1, 3, 5, 5, dtype=torch.float64))


def with_data(x: Tensor, data: Tensor) -> Tensor:
    x.data = data
    return x


REFUSED = [
    (lambda _, x: torch.stack([x[i] for i in range(len(x))]), "a number of the batch"),
    (lambda _, x: torch.stack(list(x)), "goes through the first axis of a tensor"),
    (lambda _, x: x * np.array(x).mean(), "an array of NumPy's of what is no sizes"),
    (lambda _, x: x * np.ones(4, dtype=np.float32), "cannot be traced"),
    (lambda _, x: x * [1, 2, 3][x.size(2) % 3], "it takes an item of a list by a size"),
    (lambda _, x: x * float("123"[x.size(2) % 3]), "it takes an item of a string by a size"),
    (lambda _, x: with_data(x, x * 2), "sets the .data of a tensor"),
    (lambda inner, x: with_data(inner[0].weight, inner[0].weight * 2) * x, "sets the .data of a"),
]


@pytest.mark.parametrize(("between", "reason"), REFUSED)
def test_what_has_no_number_of_its_own_is_refused(
    find: Callable[..., Any], between: Callable[[nn.Module, Tensor], Tensor], reason: str
) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        find(Net(between), (2, 3, 4, 4))


def test_a_module_has_its_own_names_back() -> None:
    mine: dict[str, Any] = {"range": range}
    with answering([(mine, "len"), (mine, "range")]):
        assert mine == {"len": length_of, "range": range_of}
    assert mine == {"range": range}
    assert length_of([1, 2]) == 2
    assert range_of(1, 7, 2) == range(1, 7, 2)
