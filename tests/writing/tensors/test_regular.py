"""Tensors of regular numbers, written as the calls that make them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from prunecore.writing.tensors.regular import regular
from prunecore.writing.text import one_line

ROW = torch.arange(40)


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (ROW, "torch.arange(40)"),
        (ROW + 3, "torch.arange(3, 43)"),
        (ROW * -2, "torch.arange(0, -80, -2)"),
        (ROW.view(1, 40, 1), "torch.arange(40).view(1, 40, 1)"),
        (ROW.int(), "torch.arange(40, dtype=torch.int32)"),
        (torch.ones(7, 7).tril(), "torch.ones(7, 7).tril()"),
        (torch.ones(1, 1, 7, 9).triu(), "torch.ones(7, 9).triu().view(1, 1, 7, 9)"),
        (torch.ones(7, 7, dtype=torch.bool).tril(), "torch.ones(7, 7, dtype=torch.bool).tril()"),
    ],
)
def test_the_call_makes_the_tensor(tensor: Tensor, text: str) -> None:
    call = regular(tensor)
    assert call is not None
    assert one_line(call) == text
    made = eval(text)
    assert made.dtype is tensor.dtype
    assert torch.equal(made, tensor)


@pytest.mark.parametrize(
    "tensor",
    [
        ROW.roll(1),
        ROW.float(),
        torch.zeros(40, dtype=torch.int64),
        torch.rand(5, 5),
        torch.rand(2, 3, 4),
    ],
)
def test_other_tensors_are_not_regular(tensor: Tensor) -> None:
    assert regular(tensor) is None
