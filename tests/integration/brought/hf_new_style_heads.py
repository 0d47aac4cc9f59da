# Attention in the newer manner: unpacked shape with -1 heads, key and value heads repeated by expand and reshape, rotary halves by slices
import torch
from torch import nn


def rotate_half(x):
    x1 = x[..., : x.shape[-1] // 2]
    x2 = x[..., x.shape[-1] // 2 :]
    return torch.cat((-x2, x1), dim=-1)


def repeat_kv(hidden_states, n_rep):
    batch, kv, slen, head_dim = hidden_states.shape
    if n_rep == 1:
        return hidden_states
    hidden_states = hidden_states[:, :, None, :, :].expand(batch, kv, n_rep, slen, head_dim)
    return hidden_states.reshape(batch, kv * n_rep, slen, head_dim)


class RMSNorm(nn.Module):
    def __init__(self, d, eps=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))
        self.variance_epsilon = eps

    def forward(self, x):
        variance = x.pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(variance + self.variance_epsilon))


class Attn(nn.Module):
    def __init__(self, d=32, heads=4, kv=2):
        super().__init__()
        self.head_dim = d // heads
        self.rep = heads // kv
        self.q_proj, self.k_proj, self.v_proj = (
            nn.Linear(d, heads * self.head_dim, bias=False),
            nn.Linear(d, kv * self.head_dim, bias=False),
            nn.Linear(d, kv * self.head_dim, bias=False),
        )
        self.o_proj = nn.Linear(heads * self.head_dim, d, bias=False)

    def forward(self, x, cos, sin):
        input_shape = x.shape[:-1]
        hidden_shape = (*input_shape, -1, self.head_dim)
        q = self.q_proj(x).view(hidden_shape).transpose(1, 2)
        k = self.k_proj(x).view(hidden_shape).transpose(1, 2)
        v = self.v_proj(x).view(hidden_shape).transpose(1, 2)
        q, k = q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin
        k, v = repeat_kv(k, self.rep), repeat_kv(v, self.rep)
        a = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        a = a.transpose(1, 2).contiguous().reshape(*input_shape, -1)
        return self.o_proj(a)


class Net(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.inp = nn.Linear(6, d)
        self.n1, self.n2, self.attn = RMSNorm(d), RMSNorm(d), Attn(d)
        self.gate_proj, self.up_proj, self.down_proj = (
            nn.Linear(d, 64, bias=False),
            nn.Linear(d, 64, bias=False),
            nn.Linear(64, d, bias=False),
        )
        self.head = nn.Linear(d, 5)
        self.register_buffer(
            "inv_freq", 1.0 / (10000 ** (torch.arange(0, 8, 2).float() / 8)), persistent=False
        )

    def forward(self, x):
        h = self.inp(x)
        t = torch.arange(x.shape[1], device=x.device, dtype=self.inv_freq.dtype)
        emb = torch.outer(t, self.inv_freq).repeat(1, 2)
        cos, sin = emb.cos(), emb.sin()
        h = h + self.attn(self.n1(h), cos, sin)
        y = self.n2(h)
        h = h + self.down_proj(nn.functional.silu(self.gate_proj(y)) * self.up_proj(y))
        return self.head(h)


SHAPE = (9, 6)


def build():
    return Net()
