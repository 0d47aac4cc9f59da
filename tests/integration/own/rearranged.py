"""Attention and shuffles with einops, as people write them."""

from __future__ import annotations

import torch
from einops import rearrange, reduce, repeat
from einops.layers.torch import Rearrange, Reduce
from torch import Tensor, nn


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int = 3, dim_head: int = 8) -> None:
        super().__init__()
        inner_dim = dim_head * heads
        self.heads = heads
        self.scale = dim_head**-0.5
        self.norm = nn.LayerNorm(dim)
        self.attend = nn.Softmax(dim=-1)
        self.to_qkv = nn.Linear(dim, inner_dim * 3, bias=False)
        self.to_out = nn.Linear(inner_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        qkv = self.to_qkv(x).chunk(3, dim=-1)
        q, k, v = (rearrange(t, "b n (h d) -> b h n d", h=self.heads) for t in qkv)
        attn = self.attend(torch.matmul(q, k.transpose(-1, -2)) * self.scale)
        return self.to_out(rearrange(torch.matmul(attn, v), "b h n d -> b n (h d)"))


class EinopsVit(nn.Module):
    def __init__(self, patch: int = 8, dim: int = 24, depth: int = 2) -> None:
        super().__init__()
        self.to_patch_embedding = nn.Sequential(
            Rearrange("b c (h p1) (w p2) -> b (h w) (p1 p2 c)", p1=patch, p2=patch),
            nn.LayerNorm(patch * patch * 3),
            nn.Linear(patch * patch * 3, dim),
        )
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.pos_embedding = nn.Parameter(torch.randn(1, 17, dim))
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    Attention(dim),
                    nn.Sequential(
                        nn.LayerNorm(dim), nn.Linear(dim, 48), nn.GELU(), nn.Linear(48, dim)
                    ),
                ]
            )
            for _ in range(depth)
        )
        self.mlp_head = nn.Linear(dim, 10)

    def forward(self, img: Tensor) -> Tensor:
        x = self.to_patch_embedding(img)
        cls_tokens = repeat(self.cls_token, "1 1 d -> b 1 d", b=x.shape[0])
        x = torch.cat((cls_tokens, x), dim=1) + self.pos_embedding
        for attn, ff in self.layers:
            x = attn(x) + x
            x = ff(x) + x
        return self.mlp_head(reduce(x, "b n d -> b d", "mean"))


class EinopsCnn(nn.Module):
    """Channels that einops shuffles and folds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.to_space = Rearrange("b (c h2 w2) h w -> b c (h h2) (w w2)", h2=2, w2=2)
        self.conv3 = nn.Conv2d(4, 12, 3, padding=1)
        self.pool = Reduce("b c (h h2) (w w2) -> b c h w", "max", h2=2, w2=2)
        self.fc = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv1(x))
        x = rearrange(x, "b (g c) h w -> b (c g) h w", g=2)
        x = self.pool(self.conv3(self.to_space(torch.relu(self.conv2(x)))))
        return self.fc(reduce(x, "b c h w -> b c", "mean"))
