"""Forwards that return tensors by names: named tuples are written, dataclasses are refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import prunecore
from prunecore import UnsupportedError


@dataclass
class Record:
    logits: Tensor
    maps: Tensor


class Row(NamedTuple):
    logits: Tensor
    maps: Tensor


class Inner(nn.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.conv, self.kind = nn.Conv2d(6, 6, 1), kind

    def forward(self, x: Tensor) -> Any:
        return self.kind(self.conv(x), x)


class Net(nn.Module):
    """Reads by their names what its child returns, and returns something of the same class."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.inner, self.head = Inner(kind), nn.Conv2d(6, 2, 1)
        self.first = nn.Conv2d(3, 8, 1)
        self.stem = nn.Conv2d(8, 6, 1)
        self.kind = kind

    def forward(self, x: Tensor) -> Any:
        found = self.inner(self.stem(self.first(x)))
        x = self.head(found.logits.relu() + found.maps)
        return self.kind(x, x.relu())


class Flat(nn.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.stem, self.middle, self.head = (
            nn.Conv2d(3, 6, 1),
            nn.Conv2d(6, 6, 1),
            nn.Conv2d(6, 2, 1),
        )
        self.kind = kind

    def forward(self, x: Tensor) -> Any:
        x = self.middle(self.stem(x))
        return self.kind(self.head(x), x)


@pytest.mark.parametrize("net", [Net, Flat])
def test_named_tuples_are_written(net: Any) -> None:
    torch.manual_seed(0)
    small = prunecore.prune(net(Row), level=20, input_shape=(3, 8, 8))
    assert small.report["verified"]


@pytest.mark.parametrize("net", [Net, Flat])
def test_a_dataclass_is_told_to_be_a_named_tuple(net: Any) -> None:
    with pytest.raises(UnsupportedError, match=r"a dataclass, Record(.|\n)*Record\(NamedTuple\)"):
        prunecore.prune(net(Record), level=20, input_shape=(3, 8, 8))
