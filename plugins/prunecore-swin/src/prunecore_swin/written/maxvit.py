"""MaxViT's attention in windows and grids."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunecore_swin.written.swin import relative_position_index


class RelativePositionalMultiHeadAttention(nn.Module):
    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        size: int,
        scale_width: int,  # of all heads before any went
        out_width: int | None = None,  # where it is not the width
    ) -> None:
        super().__init__()
        self.n_heads = heads
        self.head_dim = head_width
        self.size = size
        self.scale_factor = scale_width**-0.5

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


class WindowPartition(nn.Module):
    def forward(self, x: Tensor, p: int) -> Tensor:
        # (batch, channels, height, width) to (batch, windows, places, channels)
        x = x.unflatten(3, (-1, p)).unflatten(2, (-1, p))
        return x.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(1, 2)


class WindowDepartition(nn.Module):
    def forward(
        self,
        x: Tensor,
        p: int,
        h_partitions: int,
        w_partitions: int,
    ) -> Tensor:
        # (batch, windows, places, channels) to (batch, channels, height, width)
        x = x.unflatten(2, (p, p)).unflatten(1, (h_partitions, w_partitions))
        return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


class SwapAxes(nn.Module):
    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.a = a
        self.b = b

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(self.a, self.b)


class PartitionAttentionLayer(nn.Module):
    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        mlp_width: int,
        p: int,
        size: int,
        scale_width: int,
        stochastic_dropout: nn.Module,
        grid: bool = False,
        attention_dropout: float = 0.0,
        mlp_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.p = p
        self.partition_op = WindowPartition()
        self.departition_op = WindowDepartition()
        # a grid's places of attention lie as far apart as its windows
        self.partition_swap = SwapAxes(-2, -3) if grid else nn.Identity()
        self.departition_swap = SwapAxes(-2, -3) if grid else nn.Identity()

        self.attn_layer = nn.Sequential(
            nn.LayerNorm(width),
            RelativePositionalMultiHeadAttention(
                width,
                heads,
                head_width,
                size,
                scale_width,
            ),
            nn.Dropout(attention_dropout),
        )
        self.mlp_layer = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, mlp_width),
            nn.GELU(),
            nn.Linear(mlp_width, width),
            nn.Dropout(mlp_dropout),
        )
        self.stochastic_dropout = stochastic_dropout

    def forward(self, x: Tensor) -> Tensor:
        _, _, height, width = x.shape
        x = self.partition_swap(self.partition_op(x, self.p))
        x = x + self.stochastic_dropout(self.attn_layer(x))
        x = x + self.stochastic_dropout(self.mlp_layer(x))
        x = self.departition_swap(x)
        return self.departition_op(x, self.p, height // self.p, width // self.p)
