"""Attention that a forward writes out, in the spellings that people use: whole heads go."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import prunecore

WIDTH, HEADS, SIZE = 16, 4, 4  # of each head
LENGTH = 5

Parts = tuple[Tensor, Tensor, Tensor]


class Attention(nn.Module):
    """Separate layers for queries, keys and values; `groups` of queries share a key and a value."""

    def __init__(self, attend: Callable[..., Tensor], groups: int = HEADS) -> None:
        super().__init__()
        self.attend, self.groups = attend, groups
        self.q = nn.Linear(WIDTH, WIDTH)
        self.k, self.v = nn.Linear(WIDTH, groups * SIZE), nn.Linear(WIDTH, groups * SIZE)
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.register_buffer("speeds", 1 / 10 ** torch.arange(0, 2.0))
        self.register_buffer("seen", torch.ones(LENGTH, LENGTH).tril().view(1, 1, LENGTH, LENGTH))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q = self.q(x).view(batch, length, HEADS, SIZE).transpose(1, 2)
        k, v = (
            layer(x).view(batch, length, self.groups, SIZE).transpose(1, 2)
            for layer in (self.k, self.v)
        )
        y = self.attend(self, q, k, v)
        return self.proj(y.transpose(1, 2).reshape(batch, length, -1))


class Merged(Attention):
    """The same, its heads merged with the batch."""

    def __init__(self, attend: Callable[..., Tensor]) -> None:
        super().__init__(attend)
        self.heads, self.size = HEADS, SIZE

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            layer(x).view(batch, length, self.heads, self.size).transpose(1, 2).contiguous()
            for layer in (self.q, self.k, self.v)
        )
        shape = (batch * self.heads, -1, self.size)
        q, k, v = q.view(*shape), k.view(*shape), v.view(*shape)
        if k.size() != (batch * self.heads, length, self.size):
            raise ValueError(k.size())
        y = self.attend(self, q, k, v).view(batch, self.heads, length, self.size)
        return self.proj(y.transpose(1, 2).reshape(batch, length, width))


class LengthFirst(Attention):
    """Its heads are merged with the batch, behind the length."""

    def __init__(self) -> None:
        super().__init__(lambda _, q, k, v: torch.bmm(torch.bmm(q, k.mT).softmax(-1), v))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            layer(x).transpose(0, 1).reshape(length, batch * HEADS, SIZE).transpose(0, 1)
            for layer in (self.q, self.k, self.v)
        )
        y = self.attend(self, q, k, v).transpose(0, 1).reshape(length, batch, width)
        return self.proj(y.transpose(0, 1))


class Biased(Attention):
    """Adds a bias for each head and pair of places."""

    def __init__(self) -> None:
        super().__init__(
            lambda net, q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=net.bias)
        )
        self.bias = nn.Parameter(torch.randn(1, HEADS, LENGTH, LENGTH))


class Positions(nn.Module):
    """A table of biases by distance, with one for each head."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(2 * LENGTH - 1, HEADS))
        places = torch.arange(LENGTH)
        distances = places[None] - places[:, None] + LENGTH - 1
        self.register_buffer("distances", distances.flatten(), persistent=False)

    def forward(self) -> Tensor:
        biases = self.table[self.distances].view(LENGTH, LENGTH, -1)
        return biases.permute(2, 0, 1).contiguous().unsqueeze(0)


class BiasedByModule(Attention):
    """The same, with biases that a module makes."""

    def __init__(self) -> None:
        super().__init__(
            lambda net, q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=net.positions())
        )
        self.positions = Positions()


class Packed(nn.Module):
    """One layer for all three."""

    def __init__(self, split: Callable[[Tensor], Parts]) -> None:
        super().__init__()
        self.split = split
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(self.qkv(x))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).flatten(2))


class InWindows(nn.Module):
    """Each window of places attends to itself: `(batch, heads, windows, length, size)`."""

    def __init__(self, heads_last: bool, attend: Callable[..., Tensor]) -> None:
        super().__init__()
        self.heads_last, self.attend = heads_last, attend
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        x = self.qkv(x).reshape(batch, -1, 1, 3, 2, WIDTH // 2)
        y = self.attend(*x.permute(3, 0, 4, 1, 2, 5).unbind(0))
        y = y.permute(0, 2, 3, 4, 1) if self.heads_last else y.permute(0, 2, 3, 1, 4)
        return self.proj(y.reshape(batch, length, -1))


class Functional(nn.Module):
    """torch's own function, with parameters of its own."""

    def __init__(self, rate: float = 0.0, **options: Any) -> None:
        super().__init__()
        self.rate, self.options = rate, options
        self.weight = nn.Parameter(torch.randn(3 * WIDTH, WIDTH) / 4)
        self.bias = nn.Parameter(torch.randn(3 * WIDTH))
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        y, weights = F.multi_head_attention_forward(
            x, x, x, WIDTH, HEADS, self.weight, self.bias, None, None, False, self.rate,
            self.proj.weight, self.proj.bias, self.training, **self.options,
        )  # fmt: skip
        y = y if weights is None else y * weights.mean()
        return y.transpose(0, 1)


class Pool(nn.Module):
    """One query asks for all places, by layers of its own, as CLIP's pooling does."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(1, 0, 2)
        y, _ = F.multi_head_attention_forward(
            query=x[:1], key=x, value=x, embed_dim_to_check=x.shape[-1], num_heads=HEADS,
            q_proj_weight=self.q.weight, k_proj_weight=self.k.weight, v_proj_weight=self.v.weight,
            in_proj_weight=None, bias_k=None, bias_v=None, add_zero_attn=False, dropout_p=0,
            in_proj_bias=torch.cat([self.q.bias, self.k.bias, self.v.bias]),
            out_proj_weight=self.proj.weight, out_proj_bias=self.proj.bias,
            use_separate_proj_weight=True, training=self.training, need_weights=False,
        )  # fmt: skip
        return y.permute(1, 0, 2)


class Block(nn.Module):
    """Attention with what is around it, with learned tokens before the others."""

    def __init__(self, attention: nn.Module, tokens: int = 2) -> None:
        super().__init__()
        self.stem, self.norm = nn.Linear(3, WIDTH), nn.LayerNorm(WIDTH)
        self.tokens = nn.Parameter(torch.randn(1, tokens, WIDTH))
        self.attention, self.head = attention, nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.tokens.expand(x.shape[0], -1, -1), self.stem(x)], 1)
        return self.head(x + self.attention(self.norm(x)))


def weighted(scores: Tensor, v: Tensor) -> Tensor:
    return scores.softmax(-1) @ v


def swapped(x: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat([-second, first], -1)


def swapped_by_slices(x: Tensor) -> Tensor:
    return torch.cat([-x[..., x.shape[-1] // 2 :], x[..., : x.shape[-1] // 2]], -1)


def interleaved(x: Tensor) -> Tensor:
    return torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)


def rotated(turn: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def attend(net: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        angles = torch.outer(torch.arange(q.shape[2], dtype=q.dtype), net.speeds)
        angles = torch.cat([angles, angles], -1)
        q = q * angles.cos() + turn(q) * angles.sin()
        k = k * angles.cos() + turn(k) * angles.sin()
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    return attend


def as_complex(net: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    angles = torch.outer(torch.arange(q.shape[2], dtype=q.dtype), net.speeds)
    turns = torch.polar(torch.ones_like(angles), angles)

    def turned(x: Tensor) -> Tensor:
        numbers = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(numbers * turns).flatten(3)

    return F.scaled_dot_product_attention(turned(q), turned(k), v)


def of_groups(x: Tensor) -> Tensor:
    batch, groups, length, size = x.shape
    x = x[:, :, None].expand(batch, groups, 2, length, size)
    return x.reshape(batch, groups * 2, length, size)


def normalised(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


# What is computed of queries, keys and values, `(batch, heads, length, size)` each.
SEPARATE: dict[str, Callable[..., Tensor]] = {
    "function": lambda _, q, k, v: F.scaled_dot_product_attention(q, k, v),
    "scaled_by_a_size": lambda _, q, k, v: weighted(q @ k.mT / math.sqrt(q.size(-1)), v),
    "scaled_before": lambda _, q, k, v: weighted((q * q.shape[-1] ** -0.5) @ k.mT, v),
    "einsum": lambda _, q, k, v: torch.einsum(
        "bhqk,bhkd->bhqd", torch.einsum("bhqd,bhkd->bhqk", q, k).softmax(-1), v
    ),
    "causal": lambda net, q, k, v: weighted((q @ k.mT).masked_fill(net.seen == 0, -1e9), v),
    "normalised": lambda _, q, k, v: F.scaled_dot_product_attention(
        normalised(q), normalised(k), v
    ),
    "linear": lambda _, q, k, v: F.elu(q) @ (F.elu(k).transpose(2, 3) @ v),
    "halves": rotated(swapped),
    "halves_by_slices": rotated(swapped_by_slices),
    "pairs": rotated(interleaved),
    "complex": as_complex,
}

# The same, where two queries share a key and a value.
GROUPED: dict[str, Callable[..., Tensor]] = {
    "repeated": lambda _, q, k, v: F.scaled_dot_product_attention(
        q, k.repeat_interleave(2, 1), v.repeat_interleave(2, dim=1)
    ),
    "expanded": lambda _, q, k, v: weighted(q @ of_groups(k).mT, of_groups(v)),
    "by_the_function": lambda _, q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
}


def masked(net: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    length = q.shape[1]
    scores = torch.bmm(q, k.mT).view(-1, HEADS, length, length)
    scores = scores.masked_fill(net.seen == 0, -1e9).view(-1, length, length)
    return torch.bmm(scores.softmax(-1), v)


class Pooling(Attention):
    """Keys and values are made fewer by a layer that all heads share, as MViT's are."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(lambda _, q, k, v: F.scaled_dot_product_attention(q, k, v))
        self.layer, self.norm = layer, nn.LayerNorm(SIZE)

    def pool(self, x: Tensor) -> Tensor:
        maps = x.reshape(-1, 1, x.shape[2], SIZE).permute(0, 3, 1, 2).contiguous()
        maps = self.layer(maps)
        return self.norm(maps.reshape(-1, HEADS, SIZE, maps.shape[-1]).transpose(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = (
            layer(x).view(batch, length, HEADS, SIZE).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        y = self.attend(self, q, self.pool(k), self.pool(v))
        return self.proj(y.transpose(1, 2).reshape(batch, length, -1))


class Convolved(nn.Module):
    """A convolution that the forward of another module calls as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(SIZE, SIZE, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, stride=2)


# What maps of the places pass, `(batch * heads, size, 1, length)`.
POOLS: dict[str, Callable[[], nn.Module]] = {
    "depthwise": lambda: nn.Conv2d(SIZE, SIZE, (1, 3), padding=(0, 1), groups=SIZE, bias=False),
    "full": lambda: nn.Conv2d(SIZE, SIZE, 1, stride=2),
    "transposed": lambda: nn.ConvTranspose2d(SIZE, SIZE, 1),
    "norm": lambda: nn.Sequential(nn.Conv2d(SIZE, SIZE, 1), nn.BatchNorm2d(SIZE), nn.GELU()),
    "group_norm": lambda: nn.GroupNorm(2, SIZE),
    "function": Convolved,
}

# What is computed of them as `(batch * heads, length, size)`.
MERGED: dict[str, Callable[..., Tensor]] = {
    "bmm": lambda _, q, k, v: torch.bmm(torch.bmm(q, k.mT).softmax(-1), v),
    "function": lambda _, q, k, v: F.scaled_dot_product_attention(q, k, v),
    "added": lambda _, q, k, v: weighted(
        torch.baddbmm(torch.zeros(1, 1, 1), q, k.mT, beta=0, alpha=0.5), v
    ),
    "masked": masked,
}


def added_to_scores(net: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    places = torch.arange(q.shape[2], dtype=q.dtype)
    bias = (places[None] - places[:, None]).abs().expand(1, HEADS, -1, -1)
    return weighted(q @ k.mT - bias, v.repeat(1, HEADS, 1, 1))


def of_one_group(x: Tensor) -> Tensor:
    batch, groups, length, size = x.shape
    x = x[:, :, None].expand(batch, groups, HEADS, length, size)
    return x.reshape(batch, groups * HEADS, length, size)


# The same, where all queries share one key and one value.
ONE_KEY: dict[str, Callable[..., Tensor]] = {
    "broadcast": lambda _, q, k, v: weighted(q @ k.mT, v),
    "expanded": lambda _, q, k, v: F.scaled_dot_product_attention(
        q, k.expand(-1, HEADS, -1, -1), v.expand(q.shape[0], HEADS, -1, SIZE)
    ),
    "expanded_transposed": lambda _, q, k, v: weighted(
        q @ k.expand(-1, HEADS, -1, -1).transpose(-1, -2), v.expand(-1, HEADS, -1, -1).contiguous()
    ),
    "expanded_as_groups": lambda _, q, k, v: weighted(q @ of_one_group(k).mT, of_one_group(v)),
    "repeated": lambda _, q, k, v: weighted(q @ k.repeat(1, HEADS, 1, 1).mT, v.tile(HEADS, 1, 1)),
    "repeated_in_turn": lambda _, q, k, v: F.scaled_dot_product_attention(
        q, k.repeat_interleave(HEADS, 1), v.repeat_interleave(repeats=HEADS, dim=1)
    ),
    "einsum": lambda _, q, k, v: torch.einsum(
        "bhqk,bkd->bhqd", torch.einsum("bhqd,bkd->bhqk", q, k[:, 0]).softmax(-1), v[:, 0]
    ),
    "by_the_function": lambda _, q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
    "added_to_scores": added_to_scores,
}

# How one layer's outputs are queries, keys and values.
PACKED: dict[str, Callable[[Tensor], Any]] = {
    "unbound": lambda x: x.reshape(*x.shape[:2], 3, HEADS, SIZE).permute(2, 0, 3, 1, 4).unbind(0),
    "indexed": lambda x: [
        x.reshape(*x.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4)[part] for part in range(3)
    ],
    "in_chunks": lambda x: [
        part.view(*x.shape[:2], HEADS, SIZE).transpose(1, 2) for part in x.chunk(3, -1)
    ],
    "within_heads": lambda x: x.view(*x.shape[:2], HEADS, 3 * SIZE).transpose(1, 2).chunk(3, -1),
}


class Positioned(nn.Module):
    """Attention whose scores are given biases, which the next layer is given, too, as T5's is."""

    def __init__(self, is_learned: bool, attend: str) -> None:
        super().__init__()
        self.q, self.k, self.v, self.proj = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.n_heads, self.attend = HEADS, attend
        self.table = nn.Embedding(8, HEADS) if is_learned else None

    def forward(
        self, x: Tensor, memory: Tensor, biases: Tensor | None, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        shape = (*x.shape[:-1], -1, SIZE)
        q = self.q(x).view(shape).transpose(1, 2)
        shape = (*memory.shape[:-1], -1, SIZE)
        k, v = (layer(memory).view(shape).transpose(1, 2) for layer in (self.k, self.v))
        if biases is None and self.table is None:
            size = (1, self.n_heads, x.shape[1], memory.shape[1])
            biases = torch.zeros(size, device=q.device, dtype=q.dtype)
        elif biases is None:
            places = torch.arange(memory.shape[1])[None] - torch.arange(x.shape[1])[:, None]
            biases = self.table(places.abs().clamp(max=7)).permute(2, 0, 1)[None]
        if self.attend == "function":
            masked = torch.where(mask, biases, torch.finfo(q.dtype).min).contiguous()
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=masked)
        else:
            y = weighted(q @ k.transpose(3, 2) + (biases + mask), v)
        return self.proj(y.transpose(1, 2).reshape(*x.shape[:-1], -1)), biases


class Decoder(nn.Module):
    """Attends to itself, by learned biases, and to another input, by none."""

    def __init__(self, attend: str) -> None:
        super().__init__()
        self.stem, self.stem2 = nn.Linear(3, WIDTH), nn.Linear(5, WIDTH)
        self.own = nn.ModuleList([Positioned(first, attend) for first in (True, False)])
        self.cross = nn.ModuleList([Positioned(False, attend) for _ in range(2)])
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        seen = torch.ones(1, 1, 1, memory.shape[1]) == 1
        own_seen = torch.ones(1, 1, x.shape[1], x.shape[1]).tril() == 1
        x, memory = self.stem(x), self.stem2(memory)
        own_biases = biases = None
        for own, cross in zip(self.own, self.cross, strict=True):
            y, own_biases = own(x, x, own_biases, own_seen)
            x = x + y
            y, biases = cross(x, memory, biases, seen)
            x = x + y
        return self.head(x)


@pytest.mark.parametrize("attend", ["function", "scores"])
def test_heads_go_with_biases_that_layers_hand_on(attend: str) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(2, LENGTH, 3), torch.randn(2, 7, 5)
    small = prunecore.prune(Decoder(attend), inputs, level=50, mode="random", seed=1)
    assert small.report["verified"]["max_relative_difference"] <= 1e-9
    assert small.report["left_whole"] == []
    heads = {small.model.cross[number].q.out_features for number in (0, 1)}
    assert len(heads) == 1
    assert heads.pop() < WIDTH
    assert small.model(torch.randn(3, 4, 3), torch.randn(3, 2, 5)).shape == (3, 4, 2)


def taken_by_number(table: Tensor, length: int) -> Tensor:
    return table[torch.arange(length, device=table.device)[None]].unsqueeze(1)


# How a network takes as many rows of a table, of angles for instance, as there are tokens.
ROWS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "sliced": lambda table, length: table[:length],
    "sliced_of_two": lambda table, length: torch.stack([table, table])[1, :length],
    "sliced_to_four_axes": lambda table, length: table[None, None, :length],
    "cast": lambda table, length: table[:length].to(torch.float64),
    "by_number": taken_by_number,
}


class Turned(nn.Module):
    """Queries are turned by angles that the network holds, and hands to its layers."""

    def __init__(self, rows: Callable[[Tensor, int], Tensor]) -> None:
        super().__init__()
        self.rows, self.stem, self.head = rows, nn.Linear(3, WIDTH), nn.Linear(WIDTH, 2)
        angles = torch.outer(torch.arange(8.0), 1 / 10 ** torch.arange(0, 2.0).repeat(2))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        self.attention = nn.ModuleList([TurnedAttention(), TurnedAttention()])

    def forward(self, x: Tensor) -> Tensor:
        cos, sin = self.rows(self.cos, x.shape[1]), self.rows(self.sin, x.shape[1])
        x = self.stem(x)
        for layer in self.attention:
            x = x + layer(x, (cos, sin))
        return self.head(x)


class TurnedAttention(Attention):
    def __init__(self) -> None:
        super().__init__(SEPARATE["function"])

    def forward(self, x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        (cos, sin), (batch, length, _) = tables, x.shape
        q, k, v = (
            layer(x).view(batch, length, HEADS, SIZE).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        y = self.attend(self, q * cos + swapped(q) * sin, k * cos + swapped(k) * sin, v)
        return self.proj(y.transpose(1, 2).reshape(batch, length, -1))


@pytest.mark.parametrize("name", ROWS)
def test_heads_meet_tables_that_the_network_hands_on(name: str) -> None:
    torch.manual_seed(0)
    net = Turned(ROWS[name])
    if name == "cast":
        net = net.double()
    x = torch.randn(2, LENGTH, 3, dtype=net.cos.dtype)
    small = prunecore.prune(net, x, level=50, mode="random-weighted", seed=1)
    assert small.report["verified"]["max_relative_difference"] <= 1e-9
    layers = {one["layer"] for one in small.report["left_whole"]}
    assert not layers & {f"attention.{number}.{one}" for number in (0, 1) for one in "qkv"}
    assert min(layer.q.out_features for layer in small.model.attention) < WIDTH
    assert small.model.cos.shape == net.cos.shape
    assert small.model(torch.randn(3, 7, 3, dtype=x.dtype)).shape == (3, 7, 2)


def check_heads(attention: nn.Module, made: str, unit: int, whole: Sequence[str] = ()) -> None:
    """Let half of the heads go, and see that these were all that is coupled within the layer."""
    torch.manual_seed(0)
    net = Block(attention)
    x = torch.randn(3, LENGTH - 2, 3)
    traced = prunecore.trace(net, x)
    found = traced.dependencies
    channels = found.axes[found.layers[f"attention.{made}".rstrip(".")]]
    _, sizes = torch.unique(torch.from_numpy(channels), return_counts=True)
    assert sizes.tolist() == [unit] * (len(channels) // unit)
    assert set(found.left_whole) == {f"attention.{layer}" for layer in whole}
    small = prunecore.prune(net, x, level=45, mode="random", seed=1)
    assert small.report["verified"]["max_relative_difference"] <= 1e-9
    assert small.model.stem.out_features < WIDTH


@pytest.mark.parametrize("name", SEPARATE)
def test_heads_go_as_a_whole(name: str) -> None:
    check_heads(Attention(SEPARATE[name]), "q", SIZE)


@pytest.mark.parametrize("kind", [Biased, BiasedByModule])
def test_biases_go_with_their_heads(kind: Callable[[], nn.Module]) -> None:
    check_heads(kind(), "q", SIZE)


@pytest.mark.parametrize("name", GROUPED)
def test_heads_that_share_a_key_go_together(name: str) -> None:
    check_heads(Attention(GROUPED[name], groups=2), "q", 2 * SIZE)


@pytest.mark.parametrize("name", MERGED)
def test_heads_that_are_merged_with_the_batch(name: str) -> None:
    check_heads(Merged(MERGED[name]), "q", SIZE)


@pytest.mark.parametrize("name", POOLS)
def test_heads_go_beside_layers_that_they_share(name: str) -> None:
    attention = Pooling(POOLS[name]())
    found = prunecore.trace(Block(attention), torch.randn(3, LENGTH - 2, 3)).dependencies
    whole = {layer.removeprefix("attention.") for layer in found.left_whole}
    assert all(layer.startswith("layer") for layer in whole)
    check_heads(attention, "k", SIZE, whole=sorted(whole))


def test_heads_that_are_merged_with_the_batch_behind_the_length() -> None:
    check_heads(LengthFirst(), "q", SIZE)


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, WIDTH), nn.Linear(WIDTH, 2)
        self.layers = nn.ModuleList([Merged(MERGED["bmm"]) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x)


def test_layers_that_keep_other_numbers_of_heads_are_one_class() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, LENGTH, 3)
    small = prunecore.prune(Deep(), x, level=40, mode="random-weighted", seed=1)
    assert small.report["verified"]["max_relative_difference"] <= 1e-9
    widths = {layer.q.out_features for layer in small.model.layers}
    assert len(widths) > 1
    assert small.source.count("class Merged") == 1
    assert ".view(batch * self.kept_heads, -1, 4)" in small.source


class Rows(nn.Module):
    """Lays channels and places in one row, as many as there are inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.point = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        batch, _, height, width = x.shape
        maps = x.reshape(-1, height * width * 8).reshape(batch * 8, -1, height, width)
        maps = F.avg_pool2d(maps, 2)
        return self.point(maps.reshape(-1, 8, height // 2, width // 2))


def test_sizes_of_the_input_stay_free_beside_channels() -> None:
    torch.manual_seed(0)
    net, x = Rows(), torch.randn(2, 3, 4, 6)
    small = prunecore.prune(net, x, level=40, mode="random")
    assert small.report["verified"]["max_relative_difference"] <= 1e-9
    assert small.model(torch.randn(3, 3, 8, 2)).shape == (3, 4, 4, 1)


@pytest.mark.parametrize(
    "options",
    [{}, {"rate": 0.1, "need_weights": False}, {"average_attn_weights": False}],
    ids=str,
)
def test_heads_of_the_function_of_torch(options: dict[str, Any]) -> None:
    check_heads(Functional(**options), "", 3 * SIZE)


def test_heads_of_the_function_of_torch_by_layers_of_their_own() -> None:
    check_heads(Pool(), "", SIZE)


@pytest.mark.parametrize("name", ONE_KEY)
def test_heads_that_share_one_key(name: str) -> None:
    check_heads(Attention(ONE_KEY[name], groups=1), "q", SIZE, whole=("k", "v"))


def asking_for_its_shape(_: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    k, v = of_one_group(k), of_one_group(v) * 0.5
    length = k.shape[2]
    mask = torch.ones(q.shape[2], length, dtype=k.dtype).tril().to(k.device) == 1
    return F.scaled_dot_product_attention(q, k[:, :, :length], v, attn_mask=mask)


def test_a_key_that_is_repeated_may_be_asked_for_its_shape() -> None:
    attention = Attention(asking_for_its_shape, groups=1)
    check_heads(attention, "q", SIZE, whole=("k", "v"))


def test_a_key_that_is_repeated_for_all_heads_and_read_besides_keeps_the_heads() -> None:
    def attend(_: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k = k.expand(-1, HEADS, -1, -1)
        return weighted(q @ k.mT, v) + k.softmax(1)

    small = prunecore.prune(
        Block(Attention(attend, groups=1)), torch.randn(3, LENGTH - 2, 3), level=20
    )
    assert "attention.q" in {one["layer"] for one in small.report["left_whole"]}


@pytest.mark.parametrize("name", PACKED)
def test_heads_of_one_layer(name: str) -> None:
    check_heads(Packed(PACKED[name]), "qkv", 3 * SIZE)


IN_WINDOWS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "function": F.scaled_dot_product_attention,
    "products": lambda q, k, v: weighted(q @ k.transpose(-2, -1), v),
}


@pytest.mark.parametrize("name", IN_WINDOWS)
@pytest.mark.parametrize("heads_last", [False, True])
def test_heads_of_windows(name: str, heads_last: bool) -> None:
    check_heads(InWindows(heads_last, IN_WINDOWS[name]), "qkv", 3 * WIDTH // 2)


def test_a_mask_of_each_head_that_stays_keeps_the_heads() -> None:
    def attend(_: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        slopes = torch.tensor([0.5, 0.25, 0.125, 0.0625]).view(1, HEADS, 1, 1)
        places = torch.arange(q.shape[2])
        mask = slopes * (places[None] - places[:, None])
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    small = prunecore.prune(Block(Attention(attend)), torch.randn(3, LENGTH - 2, 3), level=20)
    whole = {one["layer"] for one in small.report["left_whole"]}
    assert whole == {"attention.q", "attention.k", "attention.v"}


class MaskedByHeads(nn.Module):
    """torch's layer, with a mask of `(batch * heads, length, length)`, alike for each head."""

    def __init__(self, mask: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.head, self.mask = nn.Linear(3, WIDTH), nn.Linear(WIDTH, 2), mask
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        mask = self.mask(x @ x.transpose(1, 2))
        return self.head(y + self.attention(y, y, y, attn_mask=mask, need_weights=False)[0])


MASKS_BY_HEADS: dict[str, Callable[[Tensor], Tensor]] = {
    "expanded": lambda x: x[:, None].expand(-1, HEADS, -1, -1).reshape(-1, *x.shape[1:]),
    "expanded to the batch": lambda x: (
        x.unsqueeze(1).expand(x.shape[0], HEADS, LENGTH, LENGTH).flatten(0, 1)
    ),
    "repeated": lambda x: x.unsqueeze(1).repeat(1, HEADS, 1, 1).flatten(0, 1),
    "of truth": lambda x: (
        (x < -3).unsqueeze(1).expand(-1, HEADS, -1, -1).reshape(-1, LENGTH, LENGTH)
    ),
}


@pytest.mark.parametrize("name", MASKS_BY_HEADS)
def test_heads_go_with_a_mask_that_is_merged_with_the_batch(name: str) -> None:
    torch.manual_seed(0)
    net = MaskedByHeads(MASKS_BY_HEADS[name])
    small = prunecore.prune(net, torch.randn(3, LENGTH, 3), level=50, mode="random")
    assert small.report["verified"]["max_relative_difference"] <= 1e-9
    assert small.report["left_whole"] == []
    assert small.model(torch.randn(5, LENGTH, 3)).shape == (5, LENGTH, 2)


class Reading(nn.Module):
    """A learned token that reads the others, in a module of its own, before it is joined to any."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.q, self.k = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 8), nn.Linear(WIDTH, 8)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, token: Tensor, x: Tensor) -> Tensor:
        x = self.norm(torch.cat([token, x], 1))
        scores = (self.q(self.norm(token)) @ self.k(x).mT).softmax(-1)
        return token + self.proj(scores @ x)


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.reading = nn.Linear(3, WIDTH), Reading()
        self.token, self.head = nn.Parameter(torch.randn(1, 1, WIDTH)), nn.Linear(WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.reading(self.token.expand(x.shape[0], -1, -1), self.stem(x)))


def test_a_token_that_is_handed_on_leaves_the_others_free() -> None:
    torch.manual_seed(0)
    small = prunecore.prune(Pooled(), torch.randn(3, LENGTH, 3), level=40, mode="random")
    assert small.report["left_whole"] == []
    assert small.report["verified"]["max_relative_difference"] <= 1e-9
    assert small.model.token.shape[-1] < WIDTH


def with_default_scale(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A decorator that looks for an argument by its name, as those of transformers do."""

    @functools.wraps(forward)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        scale = kwargs.get("scale")
        return forward(self, *args, **{**kwargs, "scale": 2.0 if scale is None else scale})

    return wrapped


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor, gate: Tensor | None = None, **kwargs: Any) -> Tensor:
        x = self.layer(x)
        return x if gate is None else x * gate + kwargs["shift"]


class Middle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()

    @with_default_scale
    def forward(self, x: Tensor, scale: float | None = None, **kwargs: Any) -> Tensor:
        return self.inner(x, **kwargs) * scale


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate = nn.Linear(3, 8), nn.Linear(3, 8)
        self.middle, self.head = Middle(), nn.Linear(8, 2)

    def forward(self, x: Tensor, use_cache: bool | None = None, **kwargs: Any) -> Tensor:
        gate, shift = torch.sigmoid(self.gate(x)), x.mean(-1, keepdim=True)
        y = self.middle(self.stem(x), scale=None, gate=gate, shift=shift, cache=None, **kwargs)
        return self.head(y)


class Shifted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor, gate: Tensor, shift: Tensor) -> Tensor:
        return self.layer(x) * gate + shift


class Clamped(nn.Module):
    """Asks in training for numbers that are not finite, as layers of DETR do."""

    def __init__(self, asks: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 8), nn.Linear(8, 2)
        self.asks = asks

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.training and self.asks(x):
            most = torch.finfo(x.dtype).max - 1000
            x = x.clamp(-most, most)
        return self.head(x)


ASKS: dict[str, Callable[[Tensor], Any]] = {
    "not all finite": lambda x: not torch.isfinite(x).all(),
    "any infinite": lambda x: torch.isinf(x).any() or torch.isnan(x).any(),
    "not finite at all": lambda x: torch.logical_not(x.isfinite()).any(),
}


@pytest.mark.parametrize("name", ASKS)
def test_all_numbers_are_taken_to_be_finite(name: str) -> None:
    small = prunecore.prune(Clamped(ASKS[name]), torch.randn(4, 3), level=30, mode="random")
    assert small.report["verified"]["max_relative_difference"] <= 1e-9
    assert ".clamp(" not in small.source


class Named(nn.Module):
    """Calls a child by keywords alone, with more than a line holds."""

    def __init__(self) -> None:
        super().__init__()
        self.first_projection, self.second_projection = nn.Linear(3, 8), nn.Linear(3, 8)
        self.inner, self.head = Shifted(), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        first_projection, second_projection = self.first_projection(x), self.second_projection(x)
        y = self.inner(
            x=first_projection + second_projection,
            gate=first_projection * second_projection,
            shift=first_projection - second_projection,
        )
        return self.head(y)


def test_a_child_may_be_called_by_keywords_alone() -> None:
    small = prunecore.prune(Named(), torch.randn(4, 3), level=30, mode="random")
    assert small.report["verified"]["max_relative_difference"] <= 1e-9


def test_keywords_reach_what_they_are_for() -> None:
    small = prunecore.prune(Outer(), torch.randn(4, 3), level=30, mode="random")
    assert small.report["verified"]["max_relative_difference"] <= 1e-9
    assert small.report["left_whole"] == []
    assert "def forward(self, x: Tensor, gate: Tensor, shift: Tensor) -> Tensor:" in small.source
    assert "self.inner(x, gate=gate, shift=shift)" in small.source
