"""Buffers of regular numbers beside the state dict are written as the calls that make them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import prunecore


def test_position_ids_beside_the_state_dict() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(9, 8), nn.Embedding(300, 8)
            self.head = nn.Linear(8, 2)
            self.register_buffer("position_ids", torch.arange(300)[None], persistent=False)

        def forward(self, tokens: Tensor) -> Tensor:
            places = self.places(self.position_ids[:, : tokens.shape[1]])
            return self.head(self.words(tokens) + places)

    small = prunecore.prune(Net(), torch.randint(9, (3, 5)), level=30)
    assert "torch.arange(300).view(1, 300)" in small.source
