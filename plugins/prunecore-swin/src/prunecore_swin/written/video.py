"""Swin's attention in windows of videos."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def to_windows3d(x: Tensor, window: Sequence[int]) -> Tensor:
    # (batch, time, height, width, channels) to (batch, windows, places, channels)
    for axis, side in enumerate(window):
        x = x.unflatten(2 * axis + 1, (-1, side))
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4, 6).flatten(1, 3)


def from_windows3d(x: Tensor, sides: Sequence[int], window: Sequence[int]) -> Tensor:
    # (batch, windows, places, channels) to (batch, time, height, width, channels)
    windows = [side // part for side, part in zip(sides, window)]
    x = x.unflatten(2, window).unflatten(1, windows)
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(len(x), *sides, -1)


def lie_apart3d(x: Tensor, window: Sequence[int], shift: Sequence[int]) -> Tensor:
    # whether two places of a window came together only as the video was shifted around
    sides = [torch.arange(side, device=x.device) for side in x.shape[1:4]]
    beyond = [side >= len(side) - step for side, step in zip(sides, shift)]
    late, below, right = torch.meshgrid(*beyond, indexing="ij")
    regions = 4 * late + 2 * below + 1 * right
    regions = to_windows3d(regions[None, ..., None], window)
    return (regions != regions.transpose(2, 3))[:, :, None]


def relative_position_index3d(frames: int, rows: int, columns: int) -> Tensor:
    # for two places of a window, the row of the table for how they lie to each other
    sides = [torch.arange(side) for side in (frames, rows, columns)]
    places = torch.cartesian_prod(*sides)
    apart = places[:, None] - places
    index = apart[..., 0] + frames - 1
    index = index * (2 * rows - 1) + apart[..., 1] + rows - 1
    return index * (2 * columns - 1) + apart[..., 2] + columns - 1


class ShiftedWindowAttention3d(nn.Module):
    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        window_size: tuple[int, int, int],
        shift_size: tuple[int, int, int] = (0, 0, 0),
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

        frames, rows, columns = window_size
        ways = (2 * frames - 1) * (2 * rows - 1) * (2 * columns - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(ways, heads))
        index = relative_position_index3d(frames, rows, columns)
        self.register_buffer("relative_position_index", index)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        # (batch, time, height, width, channels)
        _, frames, height, width, _ = x.shape
        sides = (frames, height, width)

        # along a side that is no longer than a window nothing is shifted
        window = [min(side, part) for side, part in zip(sides, self.window_size)]
        shift = [
            step if side > part else 0
            for side, part, step in zip(sides, self.window_size, self.shift_size)
        ]
        late, below, right = (-side % part for side, part in zip(sides, window))
        x = F.pad(x, (0, 0, 0, right, 0, below, 0, late))
        padded = x.shape[1:4]

        apart = None
        if any(shift):
            x = x.roll([-step for step in shift], (1, 2, 3))
            apart = lie_apart3d(x, window, shift)
        x = self.attend(to_windows3d(x, window), apart)
        x = from_windows3d(x, padded, window)
        if any(shift):
            x = x.roll(shift, (1, 2, 3))
        return x[:, :frames, :height, :width]

    def attend(self, x: Tensor, apart: Tensor | None) -> Tensor:
        # query, key and value, each (batch, windows, heads, places, head width)
        qkv = self.qkv(x).unflatten(3, (3, self.heads, self.head_width))
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)

        places = x.shape[2]
        index = self.relative_position_index[:places, :places]
        bias = self.relative_position_bias_table[index].permute(2, 0, 1)
        mask = bias if apart is None else bias - 100 * apart
        dropout = self.attention_dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        out = self.proj(out.transpose(2, 3).flatten(3))
        return F.dropout(out, self.dropout, self.training)
