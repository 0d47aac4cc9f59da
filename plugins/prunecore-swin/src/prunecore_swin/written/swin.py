"""Swin's attention in windows of images, and the merging of patches."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def to_windows(x: Tensor, rows: int, columns: int) -> Tensor:
    # (batch, height, width, channels) to (batch, windows, places, channels)
    x = x.unflatten(1, (-1, rows)).unflatten(3, (-1, columns))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def from_windows(x: Tensor, height: int, width: int, rows: int, columns: int) -> Tensor:
    # (batch, windows, places, channels) to (batch, height, width, channels)
    x = x.unflatten(2, (rows, columns)).unflatten(1, (-1, width // columns))
    return x.transpose(2, 3).reshape(len(x), height, width, -1)


def relative_position_index(rows: int, columns: int) -> Tensor:
    # for two places of a window, the row of the table for how they lie to each other
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    apart = places[:, None] - places
    return (apart[..., 0] + rows - 1) * (2 * columns - 1) + apart[..., 1] + columns - 1


def over_windows(
    attend: Callable[[Tensor, Tensor | None], Tensor],
    x: Tensor,
    window_size: tuple[int, int],
    shift_size: tuple[int, int],
) -> Tensor:
    # (batch, height, width, channels), padded to whole windows
    _, height, width, _ = x.shape
    rows, columns = window_size
    x = F.pad(x, (0, 0, 0, -width % columns, 0, -height % rows))
    _, padded_height, padded_width, _ = x.shape

    # along a side that is a single window nothing is shifted
    down = shift_size[0] if rows < padded_height else 0
    right = shift_size[1] if columns < padded_width else 0
    apart = None
    if down or right:
        x = x.roll((-down, -right), (1, 2))
        apart = lie_apart(x, window_size, down, right)
    x = attend(to_windows(x, rows, columns), apart)
    x = from_windows(x, padded_height, padded_width, rows, columns)
    if down or right:
        x = x.roll((down, right), (1, 2))
    return x[:, :height, :width]


def lie_apart(x: Tensor, window: tuple[int, int], down: int, right: int) -> Tensor:
    # whether two places of a window came together only as the map was shifted around
    _, height, width, _ = x.shape
    below = torch.arange(height, device=x.device) >= height - down
    beyond = torch.arange(width, device=x.device) >= width - right
    regions = 2 * below[:, None] + 1 * beyond
    regions = to_windows(regions[None, :, :, None], *window)
    return (regions != regions.transpose(2, 3))[:, :, None]


class ShiftedWindowAttention(nn.Module):
    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        window_size: tuple[int, int],
        shift_size: tuple[int, int] = (0, 0),
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
        qkv_bias: bool = True,
        proj_bias: bool = True,
        out_width: int | None = None,  # where it is not the width
    ) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = head_width
        self.window_size = window_size
        self.shift_size = shift_size
        self.attention_dropout = attention_dropout
        self.dropout = dropout

        inner = heads * head_width  # need not be the width
        self.qkv = nn.Linear(width, 3 * inner, bias=qkv_bias)
        self.proj = nn.Linear(inner, out_width or width, bias=proj_bias)

        rows, columns = window_size
        table = torch.zeros((2 * rows - 1) * (2 * columns - 1), heads)
        self.relative_position_bias_table = nn.Parameter(table)
        index = relative_position_index(rows, columns).flatten()
        self.register_buffer("relative_position_index", index)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return over_windows(self.attend, x, self.window_size, self.shift_size)

    def attend(self, x: Tensor, apart: Tensor | None) -> Tensor:
        # query, key and value, each (batch, windows, heads, places, head width)
        qkv = self.qkv(x).unflatten(3, (3, self.heads, self.head_width))
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)

        bias = self.relative_position_bias_table[self.relative_position_index]
        bias = bias.view(x.shape[2], x.shape[2], self.heads).permute(2, 0, 1)
        mask = bias if apart is None else bias - 100 * apart
        dropout = self.attention_dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        out = self.proj(out.transpose(2, 3).flatten(3))
        return F.dropout(out, self.dropout, self.training)


def side_by_side(x: Tensor) -> Tensor:
    # the channels of two by two places, (..., height, width, channels), one after another
    x = F.pad(x, (0, 0, 0, x.shape[-2] % 2, 0, x.shape[-3] % 2))
    columns = [x[..., column::2, :] for column in (0, 1)]
    return torch.cat([x[..., row::2, :, :] for x in columns for row in (0, 1)], -1)


class PatchMerging(nn.Module):
    def __init__(self, width: int, out_width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, out_width, bias=False)
        self.norm = nn.LayerNorm(4 * width, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.reduction(self.norm(side_by_side(x)))


def coordinates(rows: int, columns: int) -> Tensor:
    # how far apart two places lie, on a logarithmic scale from -1 to 1
    down = torch.arange(1 - rows, rows, dtype=torch.float32) / (rows - 1)
    right = torch.arange(1 - columns, columns, dtype=torch.float32) / (columns - 1)
    table = 8 * torch.stack(torch.meshgrid(down, right, indexing="ij"), -1)
    return (table.sign() * (table.abs() + 1.0).log2() / 3.0).unsqueeze(0)


class ShiftedWindowAttentionV2(nn.Module):
    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        bias_width: int,
        window_size: tuple[int, int],
        shift_size: tuple[int, int] = (0, 0),
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
        qkv_bias: bool = True,
        proj_bias: bool = True,
        out_width: int | None = None,  # where it is not the width
    ) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = head_width
        self.window_size = window_size
        self.shift_size = shift_size
        self.attention_dropout = attention_dropout
        self.dropout = dropout

        inner = heads * head_width  # need not be the width
        self.qkv = nn.Linear(width, 3 * inner, bias=qkv_bias)
        self.proj = nn.Linear(inner, out_width or width, bias=proj_bias)
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10.0)))

        # makes each head's bias of how two places lie to each other
        self.cpb_mlp = nn.Sequential(
            nn.Linear(2, bias_width),
            nn.ReLU(inplace=True),
            nn.Linear(bias_width, heads, bias=False),
        )
        rows, columns = window_size
        self.register_buffer("relative_coords_table", coordinates(rows, columns))
        index = relative_position_index(rows, columns).flatten()
        self.register_buffer("relative_position_index", index)

    def forward(self, x: Tensor) -> Tensor:
        return over_windows(self.attend, x, self.window_size, self.shift_size)

    def attend(self, x: Tensor, apart: Tensor | None) -> Tensor:
        # query, key and value, each (batch, windows, heads, places, head width)
        qkv = F.linear(x, self.qkv.weight, self.qkv_bias())
        qkv = qkv.unflatten(3, (3, self.heads, self.head_width))
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)

        # the scores are cosines, scaled by at most 100
        scale = self.logit_scale.clamp(max=math.log(100.0)).exp()
        q = F.normalize(q, dim=-1) * scale
        k = F.normalize(k, dim=-1)

        table = self.cpb_mlp(self.relative_coords_table).flatten(0, 2)
        bias = 16 * table.sigmoid()[self.relative_position_index]
        bias = bias.view(x.shape[2], x.shape[2], self.heads).permute(2, 0, 1)
        mask = bias if apart is None else bias - 100 * apart
        dropout = self.attention_dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, mask, dropout, scale=1.0)
        out = self.proj(out.transpose(2, 3).flatten(3))
        return F.dropout(out, self.dropout, self.training)

    def qkv_bias(self) -> Tensor | None:
        if self.qkv.bias is None:
            return None
        query, key, value = self.qkv.bias.chunk(3)
        return torch.cat([query, torch.zeros_like(key), value])  # keys have none


class PatchMergingV2(nn.Module):
    def __init__(self, width: int, out_width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, out_width, bias=False)
        self.norm = nn.LayerNorm(out_width, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.reduction(side_by_side(x)))


class Permute(nn.Module):
    def __init__(self, dims: list[int]) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.dims)
