"""MViT's attention, which pools its queries, keys and values."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def relative_positions(table: Tensor, queries: int, keys: int) -> Tensor:
    # what a table has for how two places along one side lie to each other
    size = 2 * max(queries, keys) - 1
    if len(table) != size:
        table = F.interpolate(table.t()[None], size, mode="linear")[0].t()
    down = torch.arange(queries)[:, None] * max(keys / queries, 1.0)
    across = (torch.arange(keys) + (1.0 - keys)) * max(queries / keys, 1.0)
    return table[(down - across).long()]


class MultiscaleAttention(nn.Module):
    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        scale: float,
        positions: tuple[int, int, int],
        project: nn.Module,
        pool_q: nn.Module | None = None,
        pool_k: nn.Module | None = None,
        pool_v: nn.Module | None = None,
        residual_pool: bool = False,
        residual_with_cls_embed: bool = False,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = head_width
        self.scale = scale
        self.residual_pool = residual_pool
        self.residual_with_cls_embed = residual_with_cls_embed

        self.qkv = nn.Linear(width, 3 * heads * head_width)
        self.project = project
        self.pool_q = pool_q
        self.pool_k = pool_k
        self.pool_v = pool_v

        frames, rows, columns = positions
        self.rel_pos_h = nn.Parameter(torch.zeros(rows, head_width))
        self.rel_pos_w = nn.Parameter(torch.zeros(columns, head_width))
        self.rel_pos_t = nn.Parameter(torch.zeros(frames, head_width))
        for table in (self.rel_pos_h, self.rel_pos_w, self.rel_pos_t):
            nn.init.trunc_normal_(table, std=0.02)

    def forward(
        self,
        x: Tensor,
        thw: tuple[int, int, int],
    ) -> tuple[Tensor, tuple[int, int, int]]:
        # query, key and value, each (batch, heads, places, head width)
        qkv = self.qkv(x).unflatten(2, (3, self.heads, self.head_width))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        k, k_thw = (k, thw) if self.pool_k is None else self.pool_k(k, thw)
        v, _ = (v, thw) if self.pool_v is None else self.pool_v(v, thw)
        q, thw = (q, thw) if self.pool_q is None else self.pool_q(q, thw)

        mask = self.bias(q, thw, k_thw)
        out = F.scaled_dot_product_attention(q, k, v, mask, scale=self.scale)
        if self.residual_pool:
            token = out[:, :, :1]
            if self.residual_with_cls_embed:
                token = token + q[:, :, :1]
            out = torch.cat([token, out[:, :, 1:] + q[:, :, 1:]], 2)
        return self.project(out.transpose(1, 2).flatten(2)), thw

    def bias(
        self,
        q: Tensor,
        q_thw: tuple[int, int, int],
        k_thw: tuple[int, int, int],
    ) -> Tensor:
        # of how the places lie to each other, without the class token
        q = q[:, :, 1:].unflatten(2, q_thw)
        t = relative_positions(self.rel_pos_t, q_thw[0], k_thw[0])
        h = relative_positions(self.rel_pos_h, q_thw[1], k_thw[1])
        w = relative_positions(self.rel_pos_w, q_thw[2], k_thw[2])
        late = torch.einsum("bnthwc,tkc->bnthwk", q, t)[..., :, None, None]
        below = torch.einsum("bnthwc,hkc->bnthwk", q, h)[..., None, :, None]
        right = torch.einsum("bnthwc,wkc->bnthwk", q, w)[..., None, None, :]
        return F.pad((late + below + right).flatten(5).flatten(2, 4), (1, 0, 1, 0))
