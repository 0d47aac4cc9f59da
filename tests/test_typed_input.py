"""An input's type, sizes and range, as they are spelt, and what is drawn of them."""

from __future__ import annotations

import pytest
import torch

from prunecore.errors import InputShapeError, UsageError
from prunecore.typed_input import TypedInput, read_typed_input

KINDS = [
    ("int64[128]<30000", TypedInput((128,), torch.int64, 0, 29999)),
    ("int32[2,3] -1..5", TypedInput((2, 3), torch.int32, -1, 5)),
    ("int64[]<10", TypedInput((), torch.int64, 0, 9)),
    ("bool[8]", TypedInput((8,), torch.bool)),
    ("bool[4,4] shared", TypedInput((4, 4), torch.bool, is_shared=True)),
    ("bool[8] 1..1", TypedInput((8,), torch.bool, 1, 1)),
    ("float[3,8,8]", TypedInput((3, 8, 8))),
    ("float[3] -0.5..1.0", TypedInput((3,), low=-0.5, high=1.0)),
]


@pytest.mark.parametrize(("text", "kind"), KINDS)
def test_what_is_spelt_is_read_back(text: str, kind: TypedInput) -> None:
    assert read_typed_input(text) == kind
    assert str(kind) == text


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (" long [ 128 ] < 30 ", "int64[128]<30"),
        ("int[4]0..9", "int64[4]<10"),
        ("float16[3,4]", "float[3,4]"),
        ("float32[3] 0..1 shared", "float[3] 0.0..1.0 shared"),
    ],
)
def test_there_are_other_spellings(text: str, same: str) -> None:
    assert str(read_typed_input(text)) == same


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("int46[4]<9", r"Unknown type of an input 'int46'. Did you mean 'int64'\?"),
        ("int64[4<9", "'int64\\[4<9' lacks a closing bracket"),
        ("int64 4]<9", "lacks an opening bracket"),
        ("int64", "has no sizes in brackets"),
        ("int64[4]", "give how many there are, such as 'int64\\[4\\]<30000'"),
        ("int64[4]<2.5", "whole ends"),
        ("int64[4] 5..1", "holds no value"),
        ("uint8[4]<300", "more than its type"),
        ("bool[4] 0..2", "more than its type"),
        ("float[4]<1", "has two ends"),
        ("float[4] 0..1e99", "more than its type"),
        ("float[0,4]", "whole numbers above 0"),
        ("float[a]", "whole numbers above 0"),
        ("float[4]>1", "not 'float\\[4\\]>1'"),
        ("", "has no sizes"),
    ],
)
def test_what_is_no_input(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        read_typed_input(text)


def test_one_that_there_is_no_room_for() -> None:
    with pytest.raises(InputShapeError, match="is too large"):
        read_typed_input("float[65536,65536]")


@pytest.mark.parametrize(("text", "kind"), KINDS)
def test_what_is_drawn_is_of_the_kind(text: str, kind: TypedInput) -> None:
    drawn = kind.drawn(3, torch.Generator().manual_seed(0))
    again = kind.drawn(3, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)
    assert drawn.shape == kind.on_meta(3).shape
    assert drawn.dtype is (torch.float64 if kind.is_float else kind.dtype)
    if kind.low is not None and kind.high is not None:
        assert kind.low <= drawn.min()
        assert drawn.max() <= kind.high


def test_no_row_of_a_mask_is_empty() -> None:
    drawn = TypedInput((5, 3), torch.bool).drawn(8, torch.Generator().manual_seed(0))
    assert drawn.any(-1).all()
    assert not drawn.all(-1).any()
