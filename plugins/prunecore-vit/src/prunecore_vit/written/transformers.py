"""Attention, and the vision transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SelfAttention(nn.Module):
    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = head_width
        self.dropout = dropout
        inner = heads * head_width  # need not be the width
        self.in_proj_weight = nn.Parameter(torch.empty(3 * inner, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * inner))
        self.out_proj = nn.Linear(inner, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor) -> Tensor:
        # query, key and value of all heads, each (batch, heads, length, head width)
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        qkv = qkv.unflatten(2, (3, self.heads, self.head_width))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)

        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class EncoderBlock(nn.Module):
    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        mlp_width: int,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=eps)
        self.self_attention = SelfAttention(width, heads, head_width, attention_dropout)
        self.dropout = nn.Dropout(dropout)

        self.ln_2 = nn.LayerNorm(width, eps=eps)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp_width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(mlp_width, width),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.self_attention(self.ln_1(x)))
        return x + self.mlp(self.ln_2(x))


class Encoder(nn.Module):
    def __init__(
        self,
        length: int,
        width: int,
        blocks: list[EncoderBlock],
        dropout: float,
        eps: float,
    ) -> None:
        super().__init__()
        embedding = torch.empty(1, length, width).normal_(std=0.02)
        self.pos_embedding = nn.Parameter(embedding)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential()
        for number, block in enumerate(blocks):
            self.layers.add_module(f"encoder_layer_{number}", block)
        self.ln = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.ln(self.layers(self.dropout(x + self.pos_embedding)))


class VisionTransformer(nn.Module):
    def __init__(
        self,
        image_size: int,
        patch_size: int,
        width: int,
        attention_heads: list[int],  # of each block
        head_width: int,
        mlp_widths: list[int],
        num_classes: int,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.conv_proj = nn.Conv2d(3, width, patch_size, stride=patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        rates = (dropout, attention_dropout)
        blocks = [
            EncoderBlock(width, heads, head_width, mlp_width, *rates, eps)
            for heads, mlp_width in zip(attention_heads, mlp_widths, strict=True)
        ]
        length = (image_size // patch_size) ** 2 + 1  # of the patches, after the class
        self.encoder = Encoder(length, width, blocks, dropout, eps)
        self.heads = nn.Sequential()
        self.heads.add_module("head", nn.Linear(width, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        # (batch, channels, height, width) to (batch, patches, channels)
        x = self.conv_proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1)
        return self.heads(self.encoder(x)[:, 0])


class MultiheadAttention(nn.Module):
    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        dropout: float = 0.0,
        bias: bool = True,
        batch_first: bool = False,
        out_width: int | None = None,  # where it is not the width
    ) -> None:
        super().__init__()
        self.heads = heads
        self.head_width = head_width
        self.dropout = dropout
        self.batch_first = batch_first
        inner = heads * head_width  # need not be the width
        self.in_proj_weight = nn.Parameter(torch.empty(3 * inner, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * inner)) if bias else None
        self.out_proj = nn.Linear(inner, out_width or width, bias=bias)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,  # says only that attn_mask is causal
    ) -> tuple[Tensor, Tensor | None]:
        q, k, v = self.project(query, key, value)
        mask = self.merge_masks(q, attn_mask, key_padding_mask)
        dropout = self.dropout if self.training else 0.0
        if need_weights:
            scores = q @ k.transpose(2, 3) * self.head_width**-0.5
            weights = (scores if mask is None else scores + mask).softmax(3)
            weights = F.dropout(weights, dropout)
            out = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            out = F.scaled_dot_product_attention(q, k, v, mask, dropout)
            weights = None
        out = self.out_proj(out.transpose(1, 2).flatten(2))
        # the length comes first in memory, as in torch's
        out = out.transpose(0, 1).contiguous()
        return out.transpose(0, 1) if self.batch_first else out, weights

    def project(self, *inputs: Tensor) -> list[Tensor]:
        # query, key and value of all heads, each (batch, heads, length, head width)
        inner = self.heads * self.head_width
        projected = []
        for number, x in enumerate(inputs):
            rows = slice(number * inner, (number + 1) * inner)
            x = x if self.batch_first else x.transpose(0, 1)
            weight = self.in_proj_weight[rows]
            bias = None if self.in_proj_bias is None else self.in_proj_bias[rows]
            x = F.linear(x, weight, bias).unflatten(2, (self.heads, self.head_width))
            projected.append(x.transpose(1, 2))
        return projected

    def merge_masks(
        self, query: Tensor, attn_mask: Tensor | None, key_padding_mask: Tensor | None
    ) -> Tensor | None:
        # what is added to the scores; nobody looks where a mask is true
        merged = None
        if key_padding_mask is not None:
            key_padding_mask = key_padding_mask[:, None, None]
        for mask in (attn_mask, key_padding_mask):
            if mask is not None and mask.dtype is torch.bool:
                zeros = torch.zeros_like(mask, dtype=query.dtype)
                mask = zeros.masked_fill(mask, -torch.inf)
            if mask is not None:
                merged = mask if merged is None else merged + mask
        return merged
