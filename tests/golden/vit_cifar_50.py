"""VisionTransformer without 50 % of its parameters: 148.17 -> 74.80 k, 2.57 -> 1.30 MMACs.

Written by prunecore (random, level 50) from networks.vit_cifar. Edit freely.
"""

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


class VitCifar(VisionTransformer):
    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(
            image_size=32,
            patch_size=8,
            width=45,
            attention_heads=[5, 5, 6, 4],
            head_width=8,
            mlp_widths=[96, 98, 91, 93],
            num_classes=num_classes,
        )


def vit_cifar(weights: str | None = None, **arguments: int) -> VitCifar:
    """Build the network; `weights` is the path of its .safetensors file."""
    model = VitCifar(**arguments)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model
