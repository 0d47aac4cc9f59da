"""SwinTransformer without 50 % of its parameters: 77.62 -> 38.68 k, 8.04 -> 3.91 MMACs.

Written by prunecore (random, level 50) from networks.swin_cifar. Edit freely.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Permute(nn.Module):
    def __init__(self, dims: list[int]) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.dims)


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


class StochasticDepth(nn.Module):
    def __init__(self, p: float, mode: str = "row") -> None:
        super().__init__()
        self.p = p
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        rows = x.shape[0] if self.mode == "row" else 1
        survival = 1 - self.p
        noise = x.new_empty([rows] + [1] * (x.ndim - 1)).bernoulli_(survival)
        return x * (noise / survival if survival > 0 else noise)


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


class MLP(nn.Sequential):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__(
            nn.Linear(channels, width),
            nn.GELU(),
            nn.Dropout(p=0.0),
            nn.Linear(width, channels),
            nn.Dropout(p=0.0),
        )


class SwinTransformerBlock(nn.Module):
    def __init__(
        self,
        channels: int,
        width: int,
        heads: int,
        stochastic_depth: float,
        shift_size: tuple[int, ...] = (0, 0),
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = ShiftedWindowAttention(
            channels, heads, 8, (4, 4), shift_size=shift_size
        )
        self.stochastic_depth = StochasticDepth(stochastic_depth)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MLP(channels, width)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm1(x)
        out = self.attn(out)
        x = x + self.stochastic_depth(out)
        out = self.norm2(x)
        out = self.mlp(out)
        return x + self.stochastic_depth(out)


class SwinTransformer(nn.Module):
    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Sequential(
                nn.Conv2d(3, 15, 2, stride=2),
                Permute([0, 2, 3, 1]),
                nn.LayerNorm(15),
            ),
            nn.Sequential(
                SwinTransformerBlock(15, 71, 3, stochastic_depth=0.0),
                SwinTransformerBlock(
                    15, 67, 1, stochastic_depth=0.03333333333333333, shift_size=(2, 2)
                ),
            ),
            PatchMerging(15, 35),
            nn.Sequential(
                SwinTransformerBlock(35, 140, 5, stochastic_depth=0.06666666666666667),
                SwinTransformerBlock(
                    35, 130, 3, stochastic_depth=0.10000000000000002, shift_size=(2, 2)
                ),
            ),
        )
        self.norm = nn.LayerNorm(35)
        self.permute = Permute([0, 3, 1, 2])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(35, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = self.flatten(self.avgpool(self.permute(self.norm(x))))
        return self.head(x)


def swin_cifar(weights: str | None = None, **arguments: int) -> SwinTransformer:
    """Build the network; `weights` is the path of its .safetensors file."""
    model = SwinTransformer(**arguments)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model
