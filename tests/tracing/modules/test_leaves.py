"""What modules return that are not traced."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunecore.tracing.modules.attributes import without_storage
from prunecore.tracing.modules.leaves import (
    always_returned_by,
    returned_by,
    run_with_numbers,
    with_numbers,
)


class Asking(nn.Module):
    """Asks for numbers before it does something."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(3, 4), function

    def forward(self, x: Tensor) -> Any:
        assert x.isfinite().all()
        return self.function(self.layer(x))


def test_what_needs_numbers_is_given_some() -> None:
    asking, x = Asking(lambda x: (x, 1)), torch.empty((2, 3), device="meta")

    def on_numbers(*args: Any) -> Any:
        return run_with_numbers(asking, False, *args)

    (y, one), macs = returned_by(without_storage(asking, False), on_numbers, x)
    assert (y.device.type, tuple(y.shape), one, macs) == ("meta", (2, 4), 1, 2 * 3 * 4)
    assert with_numbers(torch.nonzero, torch.empty((2, 3), device="meta")).shape == (6, 2)


def test_what_has_no_storage_itself_is_given_some() -> None:
    with torch.device("meta"):
        asking = Asking(lambda x: x)
    assert not run_with_numbers(asking, False, torch.empty((2, 3), device="meta")).is_meta


def test_what_is_always_returned_is_told() -> None:
    x = torch.empty((2, 3), device="meta")
    one, other = always_returned_by(Asking(lambda x: (x, x.sum(1))), False, x)
    assert (tuple(one.shape), tuple(other.shape)) == ((2, 4), (2,))


@pytest.mark.parametrize(
    "function", [lambda x: x[x > x.min()], lambda x: list(x), lambda x: x.sum().item()]
)
def test_what_depends_on_numbers_or_on_the_batch_is_not_told(function: Any) -> None:
    with pytest.raises(ValueError, match="depends on numbers"):
        always_returned_by(Asking(function), False, torch.empty((2, 3), device="meta"))
