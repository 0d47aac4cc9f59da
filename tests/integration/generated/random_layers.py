"""Layers that networks are drawn of: convolutions, norms, gates, attention.

What a layer's forward does is chosen by name when it is made, so that each form of an operation is
drawn: method, function and operator, in place or not.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Chosen(nn.Module):
    """A module whose forward has several forms."""

    FORMS: tuple[str, ...] = ()

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form

    def extra_repr(self) -> str:
        return self.form


class FunctionalConvolution(Chosen):
    """Layers as functions, of weights of the module's own."""

    FORMS = ("plain", "batch_norm", "instance_norm", "group_norm", "layer_norm", "transposed")

    def __init__(self, form: str, rank: int, width: int, out: int, groups: int) -> None:
        super().__init__(form)
        kernel = (2 if form == "transposed" else 3,) * rank
        sizes = (width, out // groups) if form == "transposed" else (out, width // groups)
        self.weight = nn.Parameter(torch.zeros(*sizes, *kernel))
        self.bias = nn.Parameter(torch.zeros(out))
        self.gain = nn.Parameter(torch.ones(out))
        self.shift = nn.Parameter(torch.zeros(out))
        self.register_buffer("running_mean", torch.zeros(out))
        self.register_buffer("running_var", torch.ones(out))
        self.groups = groups
        self.ones = (1,) * rank
        self.convolve = getattr(F, f"conv{rank}d")
        self.transpose = getattr(F, f"conv_transpose{rank}d")
        self.pool = getattr(F, f"avg_pool{rank}d")

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.running_mean, self.running_var
        if self.form == "transposed":
            x = self.transpose(x, self.weight, self.bias, stride=2, groups=self.groups)
            x = self.pool(input=x, kernel_size=2)
        else:
            x = self.convolve(x, self.weight, bias=self.bias, padding=1, groups=self.groups)
        if self.form == "batch_norm":
            return F.batch_norm(x, mean, variance, self.gain, self.shift, self.training)
        if self.form == "instance_norm":
            x = F.instance_norm(x, weight=self.gain, bias=self.shift)
        if self.form == "group_norm":
            x = F.group_norm(x, 1, self.gain, self.shift)
        x = x + mean.view(-1, *self.ones) * variance.reshape(-1, *self.ones)
        if self.form == "layer_norm":
            x = x.movedim(1, -1)
            x = F.layer_norm(x, (x.shape[-1],), self.gain, self.shift)
            return x.movedim(-1, 1)
        return x * self.gain.view(-1, *self.ones) + self.shift.view(1, -1, *self.ones)


class Gated(Chosen):
    """Squeeze and excitation."""

    FORMS = ("maps", "vectors", "in place", "functions")

    def __init__(self, form: str, rank: int, width: int, inner: int) -> None:
        super().__init__(form)
        self.maps = tuple(range(2, 2 + rank))
        self.pool = getattr(nn, f"AdaptiveAvgPool{rank}d")(1)
        if form in ("vectors", "functions"):
            self.squeeze: nn.Module = nn.Linear(width, inner)
            self.excite: nn.Module = nn.Linear(inner, width)
        else:
            convolution = getattr(nn, f"Conv{rank}d")
            self.squeeze, self.excite = convolution(width, inner, 1), convolution(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "functions":
            y = F.linear(x.flatten(2).mean(-1), self.squeeze.weight, self.squeeze.bias)
            y = F.linear(F.leaky_relu(y, 0.1), self.excite.weight, bias=self.excite.bias)
            return x * torch.sigmoid(y).view(x.shape[0], -1, *(1 for _ in self.maps))
        if self.form == "vectors":
            gate = torch.sigmoid(self.excite(F.silu(self.squeeze(x.mean(self.maps)))))
            for _ in self.maps:
                gate = gate.unsqueeze(-1)
            return x * gate
        gate = F.hardsigmoid(self.excite(F.relu(self.squeeze(self.pool(x)))))
        if self.form == "in place":
            x = x + 0.5
            return x.mul_(gate)
        return gate.expand_as(x).mul(x)


class Scaled(Chosen):
    """Parameters and a buffer of the module's own."""

    FORMS = ("maps", "vectors", "both", "positions")

    def __init__(self, form: str, rank: int, width: int, side: int) -> None:
        super().__init__(form)
        ones = (1,) * rank
        shape = (width,) if form == "vectors" else (width, *ones)
        self.scale = nn.Parameter(torch.ones(shape))
        self.register_buffer("offset", torch.zeros(shape))
        if form == "positions":
            self.positions = nn.Parameter(torch.zeros(1, width, *(side,) * rank))
        self.ones = ones

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "vectors":
            shift = self.offset.reshape(self.offset.shape[0], *self.ones)
            return x * self.scale.view(1, -1, *self.ones) + shift
        if self.form == "positions":
            return x * self.scale + self.positions
        return torch.addcmul(self.offset, x, self.scale) if self.form == "both" else x * self.scale


class Modulated(Chosen):
    """A scale and a shift for each channel, computed of the maps' means."""

    FORMS = ("chunk", "split", "stack", "unflatten")

    def __init__(self, form: str, width: int) -> None:
        super().__init__(form)
        self.both = nn.Linear(width, 2 * width)
        self.width = width

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        y = self.both(x.flatten(2).mean(2))
        if self.form == "chunk":
            gain, shift = torch.chunk(input=y, chunks=2, dim=1)
        elif self.form == "split":
            gain, shift = y.split(split_size=self.width, dim=-1)
        elif self.form == "stack":
            gain, shift = y.view(y.size(0), 2, -1).unbind(dim=1)
        else:
            gain, shift = y.unflatten(1, (2, self.width)).permute(1, 0, 2)
        rows = x.flatten(2) * (gain[:, :, None] * scale + 1) + shift.unsqueeze(2)
        return rows.view(x.shape)


class Masked(Chosen):
    """Place by place: comparisons, choices and limits."""

    FORMS = ("where", "masked_fill", "clamp", "compared", "powers", "shared")

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "where":
            return torch.where(x > 0, x, 0.1 * x - 0.2)
        if self.form == "masked_fill":
            return x.masked_fill(x.lt(-1), 0.25)
        if self.form == "clamp":
            return torch.clamp(-x, min=-1.0, max=2) / 3
        if self.form == "compared":
            return torch.minimum(x.abs(), x**2 + 1) * (x >= 0.1)
        if self.form == "powers":
            return (1 - x).square().add_(1).rsqrt() * 2**0.5
        return x.lerp(torch.ones_like(x), 0.25).sub(x.new_full(x.shape, 0.5))


class Tokens(Chosen):
    """The maps as rows of vectors, for linear layers and layer norms."""

    FORMS = ("flatten", "movedim", "view")

    def __init__(self, form: str, width: int, inner: int) -> None:
        super().__init__(form)
        self.norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "movedim":
            y = self.fc2(F.gelu(self.fc1(self.norm(x.movedim(1, -1)))))
            return x + y.movedim(-1, 1)
        if self.form == "view":
            rows = x.contiguous().view(x.size(0), x.size(1), -1).mT
        else:
            rows = torch.flatten(input=x, start_dim=2).transpose(1, 2)
        rows = rows + self.fc2(F.gelu(self.fc1(self.norm(rows))))
        return rows.transpose(-2, -1).reshape(x.shape)


class Recurrent(Chosen):
    """The places of the maps as steps of a sequence."""

    FORMS = ("lstm", "gru", "rnn", "both ways", "added", "first states", "last states", "cell")

    def __init__(self, form: str, width: int, units: int, layers: int) -> None:
        super().__init__(form)
        self.units, self.layers = units, layers
        kinds = {"lstm": nn.LSTM, "both ways": nn.LSTM, "last states": nn.LSTM, "rnn": nn.RNN}
        self.first: nn.Module
        if form == "cell":
            self.first = nn.GRUCell(width, units)
        else:
            both = form in ("both ways", "added", "last states")
            options = {"num_layers": layers, "batch_first": form != "rnn", "bidirectional": both}
            self.first = kinds.get(form, nn.GRU)(width, units, **options)
        self.last = nn.Linear(2 * units if form in ("both ways", "last states") else units, width)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(2).transpose(1, 2)
        rows = rows + self.last(self.outputs(rows))
        return rows.transpose(1, 2).reshape(x.shape)

    def outputs(self, rows: Tensor) -> Tensor:
        if self.form == "rnn":
            return self.first(rows.transpose(0, 1))[0].transpose(0, 1)
        if self.form == "added":
            both = self.first(rows)[0]
            return both[..., : self.units] + both[..., self.units :]
        if self.form == "first states":
            shape = self.layers, rows.size(0), self.units
            return self.first(rows, torch.ones(*shape, dtype=rows.dtype))[0]
        if self.form == "last states":
            _, (h, c) = self.first(rows)
            return torch.cat([h[-2], c[-1]], 1)[:, None]
        if self.form == "cell":
            state = rows.new_zeros(rows.size(0), self.units)
            for step in range(3):
                state = self.first(rows[:, step], state)
            return state.unsqueeze(1)
        return self.first(rows)[0]


class Attention(Chosen):
    """Every place of the maps looks at every other, in several heads."""

    FORMS = ("fused", "einsum", "matmul", "function", "chunk", "one head", "module", "rows")

    def __init__(self, form: str, width: int, heads: int, size: int) -> None:
        super().__init__(form)
        self.heads, self.size = heads, size  # of each head
        inner = heads * size
        if form == "module":
            self.attend = nn.MultiheadAttention(inner, heads, batch_first=True)
        if form == "rows":
            self.weight = nn.Parameter(torch.ones(3 * inner, width))
        elif form in ("fused", "chunk"):
            self.qkv = nn.Linear(width, 3 * inner, bias=form == "fused")
        else:
            self.query, self.key = nn.Linear(width, inner), nn.Linear(width, inner)
            self.value = nn.Linear(width, inner, bias=False)
        self.projection = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(2).transpose(1, 2)
        n, length, _ = rows.shape
        if self.form == "one head":
            weights = torch.bmm(self.query(rows), self.key(rows).transpose(1, 2))
            y = torch.softmax(weights * self.size**-0.5, dim=-1) @ self.value(rows)
        elif self.form == "fused":
            qkv = self.qkv(rows).reshape(n, length, 3, self.heads, self.size)
            q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
            weights = (q @ k.transpose(-2, -1) * self.size**-0.5).softmax(dim=-1)
            y = (weights @ v).transpose(1, 2).reshape(n, length, -1)
        elif self.form == "chunk":
            q, k, v = (self.split(part) for part in self.qkv(rows).chunk(3, dim=-1))
            y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        elif self.form == "rows":
            inner = self.heads * self.size
            of_key, of_value = self.weight[inner:].chunk(2)
            weights = (self.weight[:inner], of_key, of_value)
            q, k, v = (self.split(F.linear(rows, weight)) for weight in weights)
            y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        elif self.form == "module":
            query, key, value = self.query(rows), self.key(rows), self.value(rows)
            y, _ = self.attend(query, key, value, need_weights=False)
        else:
            q, k, v = (self.split(layer(rows)) for layer in (self.query, self.key, self.value))
            y = self.attended(q, k, v).permute(0, 2, 1, 3)
            y = y.reshape(n, length, self.heads * self.size)
        y = self.projection(y)
        return x + y.transpose(1, 2).reshape(x.shape)

    def split(self, x: Tensor) -> Tensor:
        return x.view(x.size(0), x.size(1), self.heads, self.size).transpose(1, 2)

    def attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.form == "function":
            return F.scaled_dot_product_attention(query=q, key=k, value=v)
        if self.form == "einsum":
            weights = torch.einsum("bhid,bhjd->bhij", q, k).div(self.size**0.5)
            return torch.einsum("bhij,bhjd->bhid", F.softmax(weights, dim=-1), v)
        weights = torch.matmul(q / self.size**0.5, k.mT)
        return torch.matmul(F.softmax(weights, -1), v)


class InTraining(Chosen):
    """What training does otherwise."""

    FORMS = ("dropout", "dropout of channels", "stochastic depth", "branch", "noise")

    def __init__(self, form: str, body: nn.Module) -> None:
        super().__init__(form)
        self.body = body  # gives as many channels as it is given

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "dropout":
            return F.dropout(self.body(x), p=0.1, training=self.training)
        if self.form == "dropout of channels":
            return F.dropout1d(self.body(x).flatten(2), 0.1, self.training).view_as(x)
        if self.form == "branch":
            return self.body(x) + x if self.training else x * 2.0
        if self.form == "stochastic depth":
            y = self.body(x)
            if not self.training:
                return x + y
            keep = y.new_empty((y.shape[0],) + (1,) * 2).bernoulli_(0.75)
            return x + (y.flatten(2) * keep.div_(0.75)).view(y.shape)
        y = self.body(x)
        if self.training:
            y = y + 0.1 * torch.rand_like(y)
        return y
