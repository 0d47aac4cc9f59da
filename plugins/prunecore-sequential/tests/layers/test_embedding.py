"""Tables whose rows are looked up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import prunecore
from prunecore import UnsupportedError


class Positions(nn.Module):
    """Adds a row of a table for each place, and a bias by pairs of places to their products."""

    def __init__(self, width: int = 8, **options: Any) -> None:
        super().__init__()
        self.first = nn.Linear(3, width)
        self.position = nn.Embedding(5, width, **options)
        self.bias = nn.Embedding(9, 4)
        self.heads, self.last = nn.Linear(width, 4), nn.Linear(4, 2)
        places = torch.arange(5)
        self.register_buffer("places", places)
        self.register_buffer("pairs", places[:, None] - places + 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.heads(self.first(x) + self.position(self.places))
        return self.last((x[:, :, None] + self.bias(self.pairs)).mean((1, 2)))


@pytest.mark.parametrize("mode", ["random", "l1-norm"])
def test_columns_go_and_rows_stay(mode: str) -> None:
    small = prunecore.prune(Positions(), level=50, input_shape=(5, 3), mode=mode)
    assert small.report["verified"]["max_relative_difference"] == 1e-12
    assert small.model.position.weight.shape == (5, small.model.first.out_features)
    assert small.model.bias.weight.shape == (9, small.model.heads.out_features)
    assert small.model.first.out_features + small.model.heads.out_features < 12
    assert small.report["left_whole"] == []


class Words(nn.Module):
    """Reads tokens, as its layer or as a function, and tells the next ones by the same table."""

    def __init__(self, calls: bool, tied: bool) -> None:
        super().__init__()
        self.calls = calls
        self.words, self.places = nn.Embedding(20, 8, padding_idx=0), nn.Embedding(6, 8)
        self.inner, self.back = nn.Linear(8, 12), nn.Linear(12, 8)
        self.head = nn.Linear(8, 20, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = F.embedding(tokens, self.words.weight) if self.calls else self.words(tokens)
        x = x + self.places(torch.arange(tokens.shape[1], device=tokens.device))
        x = x * (tokens != 0).unsqueeze(-1).to(x.dtype)
        return self.head(x + self.back(torch.relu(self.inner(x))))


@pytest.mark.parametrize("calls", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_tokens(calls: bool, tied: bool) -> None:
    model = Words(calls, tied)
    small = prunecore.prune(model, torch.randint(20, (4, 6)), 40, mode="random")
    assert small.report["verified"]["max_relative_difference"] <= 1e-9
    assert small.report["left_whole"] == []
    assert small.model.words.weight.shape == (20, small.model.back.out_features)
    assert small.model.words.padding_idx == 0
    assert (small.model.head.weight is small.model.words.weight) == tied
    assert small.model.back.out_features < 8 or small.model.inner.out_features < 12
    small.model(torch.randint(20, (2, 6))).sum().backward()


def test_a_table_of_words_stays_as_long_where_its_weight_is_used_again() -> None:
    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = nn.Embedding(9, 6), nn.Linear(9, 2)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(torch.relu(F.linear(self.words(tokens), self.words.weight)))

    small = prunecore.prune(Again(), torch.randint(9, (4, 5)), 25)
    assert small.model.words.weight.shape[0] == 9
    assert small.report["verified"]["max_relative_difference"] <= 1e-9


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Positions(max_norm=1.0), "it scales its rows to a norm"),
        (
            nn.Sequential(nn.Embedding(5, 8), nn.Linear(8, 2)),
            r"it looks up rows by what are floating.*\n.*--input 'tokens:int64\[128\]<5'",
        ),
    ],
)
def test_what_is_not_understood_is_refused(model: nn.Module, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        prunecore.prune(model, level=30, input_shape=(5, 3), strict=True)
