"""Attention over patches and tokens, as people write it."""

import math

import torch
import torch.nn.functional as F
from torch import nn


class MlpBlock(nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.fc1 = nn.Linear(d, h)
        self.fc2 = nn.Linear(h, d)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class MixerBlock(nn.Module):
    def __init__(self, d, t):
        super().__init__()
        self.norm1 = nn.LayerNorm(d)
        self.tok = MlpBlock(t, 24)
        self.norm2 = nn.LayerNorm(d)
        self.ch = MlpBlock(d, 48)

    def forward(self, x):
        y = self.norm1(x).transpose(1, 2)
        x = x + self.tok(y).transpose(1, 2)
        return x + self.ch(self.norm2(x))


class Mixer(nn.Module):
    def __init__(self, d=32, p=8):
        super().__init__()
        self.stem = nn.Conv2d(3, d, p, p)
        self.blocks = nn.Sequential(*[MixerBlock(d, 16) for _ in range(2)])
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, 10)

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.blocks(x)).mean(dim=1))


def mixer():
    return Mixer()


class Attention(nn.Module):
    def __init__(self, dim, heads=4, qkv_bias=False):
        super().__init__()
        self.num_heads = heads
        self.scale = (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, dim * 3, bias=qkv_bias)
        self.attn_drop = nn.Dropout(0.0)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(0.0)

    def forward(self, x):
        B, N, C = x.shape
        qkv = (
            self.qkv(x).reshape(B, N, 3, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)
        )
        q, k, v = qkv[0], qkv[1], qkv[2]
        attn = (q @ k.transpose(-2, -1)) * self.scale
        attn = self.attn_drop(attn.softmax(dim=-1))
        x = (attn @ v).transpose(1, 2).reshape(B, N, C)
        return self.proj_drop(self.proj(x))


class VBlock(nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.norm1 = nn.LayerNorm(d)
        self.attn = Attention(d, h)
        self.norm2 = nn.LayerNorm(d)
        self.mlp = MlpBlock(d, 4 * d)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class OwnViT(nn.Module):
    def __init__(self, d=32, depth=2, heads=4, img=32, p=8):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, d, p, p)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, d))
        self.pos_embed = nn.Parameter(torch.zeros(1, (img // p) ** 2 + 1, d))
        self.blocks = nn.ModuleList([VBlock(d, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, 10)

    def forward(self, x):
        B = x.shape[0]
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(B, -1, -1), x), dim=1) + self.pos_embed
        for blk in self.blocks:
            x = blk(x)
        return self.head(self.norm(x)[:, 0])


def own_vit():
    return OwnViT()


class Tiny(nn.Module):
    def __init__(self, blk, d=32):
        super().__init__()
        self.e = nn.Conv2d(3, d, 8, 8)
        self.n = nn.LayerNorm(d)
        self.b = blk
        self.f = nn.Linear(d, 5)

    def forward(self, x):
        x = self.e(x).flatten(2).mT
        x = x + self.b(self.n(x))
        return self.f(x.mean(1))


class QKV(nn.Module):
    def __init__(self, d=32, h=4):
        super().__init__()
        self.h = h
        self.d = d // h
        self.q = nn.Linear(d, d)
        self.k = nn.Linear(d, d)
        self.v = nn.Linear(d, d)
        self.o = nn.Linear(d, d)

    def forward(self, x, mask=None):
        b, n, _ = x.shape
        q, k, v = [
            f(x).view(b, n, self.h, self.d).transpose(1, 2) for f in (self.q, self.k, self.v)
        ]
        s = torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(self.d)
        if mask is not None:
            s = s.masked_fill(mask == 0, -1e9)
        return self.o(
            (F.softmax(s, dim=-1) @ v).transpose(1, 2).contiguous().view(b, n, self.h * self.d)
        )


def annotated():
    return Tiny(QKV())


class EinAttn(nn.Module):
    def __init__(self, d=32, h=4):
        super().__init__()
        self.h = h
        self.to_qkv = nn.Linear(d, 3 * d, bias=False)
        self.out = nn.Sequential(nn.Linear(d, d), nn.Dropout(0.1))

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.to_qkv(x).chunk(3, dim=-1)
        q, k, v = (t.view(b, n, self.h, -1).transpose(1, 2) for t in (q, k, v))
        dots = torch.einsum("b h i d, b h j d -> b h i j", q, k) * 8**-0.5
        out = torch.einsum("bhij,bhjd->bhid", dots.softmax(-1), v)
        return self.out(out.transpose(1, 2).reshape(b, n, -1))


def einattn():
    return Tiny(EinAttn())


class SDPA(nn.Module):
    def __init__(self, d=32, h=4):
        super().__init__()
        self.h = h
        self.c_attn = nn.Linear(d, 3 * d)
        self.c_proj = nn.Linear(d, d)
        self.n_embd = d

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        k = k.view(B, T, self.h, C // self.h).transpose(1, 2)
        q = q.view(B, T, self.h, C // self.h).transpose(1, 2)
        v = v.view(B, T, self.h, C // self.h).transpose(1, 2)
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=None, dropout_p=0.1 if self.training else 0, is_causal=True
        )
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))


def gpt():
    return Tiny(SDPA())


class MHA(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.a = nn.MultiheadAttention(d, 4, batch_first=True)

    def forward(self, x):
        return self.a(x, x, x, need_weights=False)[0]


def mha():
    return Tiny(MHA())


class TE(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Conv2d(3, 32, 8, 8)
        self.enc = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2)
        self.head = nn.Linear(32, 5)

    def forward(self, x):
        return self.head(self.enc(self.proj(x).flatten(2).transpose(1, 2)).mean(1))


def transformer():
    return TE()


class SelfAttn(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.q = nn.Conv2d(c, c // 8, 1)
        self.k = nn.Conv2d(c, c // 8, 1)
        self.v = nn.Conv2d(c, c, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x):
        b, C, w, h = x.size()
        q = self.q(x).view(b, -1, w * h).permute(0, 2, 1)
        k = self.k(x).view(b, -1, w * h)
        att = self.softmax(torch.bmm(q, k))
        v = self.v(x).view(b, -1, w * h)
        out = torch.bmm(v, att.permute(0, 2, 1)).view(b, C, w, h)
        return self.gamma * out + x


def sagan():
    return nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), SelfAttn(32), nn.Conv2d(32, 4, 3))
