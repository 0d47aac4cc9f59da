"""Submodules that return dictionaries whose items are attributes, and places of a tuple, too."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import pytest
import torch
from torch import Tensor, nn


@dataclass
class Output(OrderedDict[str, Any]):
    """As libraries of transformers have it: what is None is no item."""

    last: Tensor | None = None
    pooled: Tensor | None = None
    hidden: Tensor | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                self[field.name] = value

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else tuple(self.values())[key]


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 6)

    def forward(self, x: Tensor) -> Output:
        x = torch.relu(self.first(x))
        return Output(last=x, pooled=x * 2)


class Net(nn.Module):
    """A body, and a head of a function of what it returns."""

    def __init__(self, function: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.body, self.head = Body(), nn.Linear(6, 2)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self.body(x)))


@pytest.mark.parametrize(
    "function",
    [
        lambda found: found.last + found.pooled,
        lambda found: found[0] - found[1],
        lambda found: found["last"] * found[-1],
        lambda found: found.last if found.hidden is None else found.hidden,
    ],
)
def test_items_are_read_as_attributes_and_as_places(
    cut: Callable[..., Any], function: Callable[[Any], Tensor]
) -> None:
    result = cut(Net(function), 3)
    assert result.keep.dependencies.removable.any()
    assert '["last"]' in result.forward
