"""MaxViT's attention as it is written: its text here is its text in a written file."""
# ruff: noqa: D101, D102 # that text goes without docstrings, as torchvision's does

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunecore_swin.written import relative_position_index


class RelativePositionalMultiHeadAttention(nn.Module):
    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        size: int,
        scale_factor: float,
        out_width: int | None = None,  # where it is not the width
    ) -> None:
        super().__init__()
        self.n_heads = heads
        self.head_dim = head_width
        self.size = size
        self.scale_factor = scale_factor

        inner = heads * head_width  # need not be the width
        self.to_qkv = nn.Linear(width, 3 * inner)
        self.merge = nn.Linear(inner, out_width or width)

        table = torch.zeros((2 * size - 1) ** 2, heads)
        self.relative_position_bias_table = nn.Parameter(table)
        index = relative_position_index(size, size)
        self.register_buffer("relative_position_index", index)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        # query, key and value, each (batch, windows, heads, places, head width)
        qkv = self.to_qkv(x).unflatten(3, (3, self.n_heads, self.head_dim))
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)

        bias = self.relative_position_bias_table[self.relative_position_index]
        bias = bias.permute(2, 0, 1)
        out = F.scaled_dot_product_attention(q, k, v, bias, scale=self.scale_factor)
        return self.merge(out.transpose(2, 3).flatten(3))
