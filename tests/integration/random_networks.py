"""Networks that nobody chose: small ones of drawn blocks, for hypothesis.

A block maps maps of `width` channels to others, and leaves their side alone unless it says so.
What a block's forward does is chosen by name when it is made, so that each form of an operation is
drawn: method, function and operator, in place or not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

SIDE = 4  # of the input maps
WIDTHS = (2, 3, 4, 6, 8, 12)

Draw = Callable[[st.SearchStrategy[Any]], Any]
Shapes = list[tuple[int, ...]]  # of the inputs, without the batch
Drawn = tuple[nn.Module, Shapes]


class Chosen(nn.Module):
    """A block whose forward has several forms."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form

    def extra_repr(self) -> str:
        return self.form


class Residual(Chosen):
    FORMS = ("operator", "in place", "method", "function")

    def __init__(self, form: str, body: nn.Module, shortcut: nn.Module | None) -> None:
        super().__init__(form)
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.shortcut is None else self.shortcut(x)
        out = self.body(x)
        if self.form == "in place":
            out = out * 1.0
            out += identity
            return F.relu(out)
        if self.form == "method":
            return out.add(identity).relu()
        if self.form == "function":
            return torch.relu(torch.add(input=out, other=identity))
        return F.relu(identity + out, inplace=True)


class Concatenated(Chosen):
    FORMS = ("cat", "dense", "reversed")

    def __init__(self, form: str, branches: Sequence[nn.Module]) -> None:
        super().__init__(form)
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        outs = [branch(x) for branch in self.branches]
        if self.form == "dense":
            outs = [x, *outs]
        if self.form == "reversed":
            outs = outs[::-1]
        return torch.cat(outs, dim=1)


class Split(Chosen):
    """Parts of the channels, of which the first goes through a body."""

    FORMS = ("chunk", "split", "slices", "unbind", "narrow")

    def __init__(self, form: str, sizes: tuple[int, int], body: nn.Module, mixed: str) -> None:
        super().__init__(form)
        self.sizes = sizes
        self.body = body
        self.mixed = mixed  # what becomes of the parts

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.parts(x)
        first = self.body(first)
        if self.mixed == "swapped":
            return torch.cat((second, first), 1)
        if self.mixed == "added":
            return first + second
        x = torch.cat((first, second), 1)
        return shuffled(x, 2, "view") if self.mixed == "shuffled" else x

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = self.sizes
        if self.form == "chunk":
            a, b = x.chunk(2, dim=1)
        elif self.form == "split":
            a, b = torch.split(x, [first, second], dim=1)
        elif self.form == "unbind":
            a, b = x.unflatten(1, (2, first)).unbind(1)
        elif self.form == "narrow":
            a, b = x.narrow(1, 0, first), x.narrow(1, first, second)
        else:
            a, b = x[:, :first], x[:, -second:]
        return a, b


class Shuffled(Chosen):
    FORMS = ("view", "reshape", "unflatten", "module")

    def __init__(self, form: str, groups: int) -> None:
        super().__init__(form)
        self.groups = groups
        self.layer = nn.ChannelShuffle(groups) if form == "module" else None

    def forward(self, x: Tensor) -> Tensor:
        return shuffled(x, self.groups, self.form) if self.layer is None else self.layer(x)


def shuffled(x: Tensor, groups: int, form: str) -> Tensor:
    batch, channels, height, width = x.size()
    if form == "unflatten":
        return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
    if form == "reshape":
        x = x.reshape(batch, groups, channels // groups, height, width)
        return x.permute(0, 2, 1, 3, 4).reshape(batch, channels, height, width)
    x = x.contiguous().view(batch, groups, channels // groups, height, width)
    return torch.transpose(x, 1, 2).contiguous().view(batch, -1, height, width)


class Gated(Chosen):
    """Squeeze and excitation."""

    FORMS = ("maps", "vectors", "in place")

    def __init__(self, form: str, width: int, inner: int) -> None:
        super().__init__(form)
        if form == "vectors":
            self.squeeze: nn.Module = nn.Linear(width, inner)
            self.excite: nn.Module = nn.Linear(inner, width)
        else:
            self.squeeze, self.excite = nn.Conv2d(width, inner, 1), nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "vectors":
            gate = torch.sigmoid(self.excite(F.silu(self.squeeze(x.mean((2, 3))))))
            return x * gate.unsqueeze(-1)[..., None]
        gate = F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        if self.form == "in place":
            x = x + 0.5
            return x.mul_(gate)
        return gate.expand_as(x).mul(x)


class Twice(nn.Module):
    """One layer, called twice."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.layer(x)))


class Scaled(Chosen):
    """Parameters and a buffer of the block's own."""

    FORMS = ("maps", "vectors", "both")

    def __init__(self, form: str, width: int) -> None:
        super().__init__(form)
        shape = (width,) if form == "vectors" else (width, 1, 1)
        self.scale = nn.Parameter(torch.ones(shape))
        self.register_buffer("offset", torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "vectors":
            return x * self.scale.view(1, -1, 1, 1) + self.offset[None, :, None, None]
        return torch.addcmul(self.offset, x, self.scale) if self.form == "both" else x * self.scale


class Rearranged(Chosen):
    """The same channels in other places, fewer or more of them."""

    FORMS = (
        "flip",
        "roll",
        "index list",
        "every second",
        "repeat_interleave",
        "repeat",
        "index_select",
        "pad",
        "glu",
        "pixel_shuffle",
        "tile of a mean",
    )

    def forward(self, x: Tensor) -> Tensor:
        width = x.shape[1]
        if self.form == "flip":
            return x.flip(1)
        if self.form == "roll":
            return torch.roll(x, shifts=1, dims=1)
        if self.form == "index list":
            return x[:, [1, 0, 1]]
        if self.form == "every second":
            return x[:, ::2]
        if self.form == "repeat_interleave":
            return x.repeat_interleave(2, dim=1)
        if self.form == "repeat":
            return x.repeat(1, 2, 1, 1)
        if self.form == "index_select":
            return torch.index_select(x, 1, self.order)
        if self.form == "pad":
            return F.pad(x, (0, 0, 0, 0, 1, 2))
        if self.form == "glu":
            return F.glu(x, dim=1)
        if self.form == "pixel_shuffle":
            return F.avg_pool2d(F.pixel_shuffle(x, 2), 2)
        return x.mean((2, 3), keepdim=True).expand(-1, width, x.shape[2], x.size(3))

    @classmethod
    def of(cls, form: str, width: int) -> tuple[nn.Module, int]:
        block = cls(form)
        if form == "index_select":
            block.register_buffer("order", torch.arange(width).flip(0))
        widths = {
            "index list": 3,
            "every second": (width + 1) // 2,
            "repeat_interleave": 2 * width,
            "repeat": 2 * width,
            "pad": width + 3,
            "glu": width // 2,
            "pixel_shuffle": width // 4,
        }
        return block, widths.get(form, width)


class Tokens(Chosen):
    """The maps as rows of vectors, for linear layers and layer norms."""

    FORMS = ("flatten", "permute", "view")

    def __init__(self, form: str, width: int, inner: int) -> None:
        super().__init__(form)
        self.norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        if self.form == "permute":
            y = self.fc2(F.gelu(self.fc1(self.norm(x.permute(0, 2, 3, 1)))))
            return x + y.permute(0, 3, 1, 2)
        if self.form == "view":
            rows = x.contiguous().view(n, c, h * w).mT
        else:
            rows = x.flatten(2).transpose(1, 2)
        rows = rows + self.fc2(F.gelu(self.fc1(self.norm(rows))))
        return rows.transpose(-2, -1).reshape(n, c, h, w)


class Stacked(Chosen):
    FORMS = ("sum", "unbind", "max")

    def __init__(self, form: str, branches: Sequence[nn.Module]) -> None:
        super().__init__(form)
        self.branches = nn.ModuleDict({f"branch{i}": b for i, b in enumerate(branches)})

    def forward(self, x: Tensor) -> Tensor:
        stack = torch.stack([branch(x) for branch in self.branches.values()], dim=1)
        if self.form == "unbind":
            parts = stack.unbind(1)
            return parts[0] * parts[-1]
        return stack.sum(dim=1) if self.form == "sum" else stack.max(dim=1).values


class FunctionalConvolution(Chosen):
    FORMS = ("conv2d", "batch_norm", "group_norm", "layer_norm")

    def __init__(self, form: str, width: int, out: int) -> None:
        super().__init__(form)
        self.weight = nn.Parameter(torch.zeros(out, width, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out))
        self.gain = nn.Parameter(torch.ones(out))
        self.shift = nn.Parameter(torch.zeros(out))
        self.register_buffer("running_mean", torch.zeros(out))
        self.register_buffer("running_var", torch.ones(out))

    def forward(self, x: Tensor) -> Tensor:
        x = F.conv2d(x, self.weight, bias=self.bias, padding=1)
        if self.form == "batch_norm":
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.gain, self.shift, self.training
            )
        if self.form == "group_norm":
            return F.group_norm(x, 1, self.gain, self.shift)
        x = x + self.running_mean[:, None, None] * self.running_var[:, None, None]
        if self.form == "layer_norm":
            x = x.permute(0, 2, 3, 1)
            x = F.layer_norm(x, (x.shape[-1],), self.gain, self.shift)
            return x.permute(0, 3, 1, 2)
        return x * self.gain[:, None, None] + self.shift.reshape(-1, 1, 1)


class Network(Chosen):
    """Blocks in a row, with further inputs that join them and one or several outputs."""

    FORMS = ("tensor", "tuple", "dict")

    def __init__(
        self,
        form: str,
        joins: Sequence[nn.Module],
        blocks: Sequence[nn.Module],
        heads: Sequence[nn.Module],
    ) -> None:
        super().__init__(form)
        self.joins = nn.ModuleList(joins)
        self.blocks = nn.Sequential(*blocks)
        self.heads = nn.ModuleList(heads)

    def forward(self, x: Tensor, *others: Tensor) -> Any:
        x = self.joins[0](x)
        for join, other in zip(self.joins[1:], others, strict=True):
            x = x + join(other)
        x = self.blocks(x)
        if self.form == "tensor":
            return self.heads[0](x)
        if self.form == "dict":
            return {f"head{number}": head(x) for number, head in enumerate(self.heads)}
        return tuple(head(x) for head in self.heads)


class Head(Chosen):
    FORMS = ("mean", "flatten", "map", "view")

    def __init__(self, form: str, width: int) -> None:
        super().__init__(form)
        if form == "map":
            self.layer: nn.Module = nn.Conv2d(width, 2, 1)
        else:
            self.layer = nn.Linear(width if form == "mean" else 4 * width, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "map":
            return self.layer(x)
        if self.form == "mean":
            return self.layer(x.mean([2, 3]))
        x = F.adaptive_avg_pool2d(x, (2, 2))
        if self.form == "flatten":
            return self.layer(x.flatten(1))
        return self.layer(x.contiguous().view(x.size(0), -1))


def convolution(draw: Draw, width: int, out: int) -> nn.Module:
    """A convolution of any kind, a norm and an activation; the maps keep their side."""
    kind = draw(st.sampled_from(["3x3", "1x1", "grouped", "depthwise", "transposed", "function"]))
    if kind == "function":
        return FunctionalConvolution(draw(st.sampled_from(FunctionalConvolution.FORMS)), width, out)
    groups, layers = 1, []
    if kind == "grouped":
        groups = max(g for g in (1, 2, 3, 4) if width % g == out % g == 0)
    if kind == "depthwise":
        times = draw(st.sampled_from([1, 2]))
        layers.append(nn.Conv2d(width, times * width, 3, padding=1, groups=width, bias=False))
        width *= times
    if kind == "transposed":
        layers += [nn.ConvTranspose2d(width, out, 2, stride=2), nn.AvgPool2d(2)]
    elif kind in ("1x1", "depthwise"):
        layers.append(nn.Conv2d(width, out, 1))
    else:
        layers.append(nn.Conv2d(width, out, 3, padding=1, groups=groups))
    norms = {
        "none": nn.Identity,
        "batch": lambda: nn.BatchNorm2d(out),
        "group": lambda: nn.GroupNorm(2 if out % 2 == 0 else 1, out),
        "instance": lambda: nn.InstanceNorm2d(out, affine=True),
        "layer": lambda: nn.GroupNorm(1, out),
    }
    layers.append(norms[draw(st.sampled_from(sorted(norms)))]())
    layers.append(draw(st.sampled_from([nn.ReLU, nn.GELU, nn.Hardswish, nn.Sigmoid]))())
    return nn.Sequential(*layers)


def block(draw: Draw, width: int, depth: int) -> tuple[nn.Module, int]:
    """A drawn block for maps of this width, blocks within it, and the width that it gives."""
    kinds = ["convolution", "rearranged", "gated", "scaled", "shuffled", "twice", "tokens"]
    if depth:
        kinds += ["residual", "concatenated", "split", "stacked", "row"]
    kind = draw(st.sampled_from(kinds))
    if kind == "convolution":
        out = draw(st.sampled_from(WIDTHS))
        return convolution(draw, width, out), out
    if kind == "rearranged":
        return rearranged(draw, width)
    if kind == "gated":
        inner = draw(st.sampled_from(WIDTHS))
        return Gated(draw(st.sampled_from(Gated.FORMS)), width, inner), width
    if kind == "scaled":
        return Scaled(draw(st.sampled_from(Scaled.FORMS)), width), width
    if kind == "shuffled":
        groups = next((g for g in (3, 2) if width % g == 0), 1)
        return Shuffled(draw(st.sampled_from(Shuffled.FORMS)), groups), width
    if kind == "twice":
        return Twice(convolution(draw, width, width)), width
    if kind == "tokens":
        inner = draw(st.sampled_from(WIDTHS))
        return Tokens(draw(st.sampled_from(Tokens.FORMS)), width, inner), width
    if kind == "row":
        first, inner = block(draw, width, depth - 1)
        second, out = block(draw, inner, depth - 1)
        return nn.Sequential(first, second), out
    if kind == "split":
        return split(draw, width, depth - 1)
    return joined(draw, kind, width, depth - 1)


def rearranged(draw: Draw, width: int) -> tuple[nn.Module, int]:
    """Channels in other places, in a form that this width allows."""
    forms = [form for form in Rearranged.FORMS if form not in ("glu", "pixel_shuffle")]
    if width < 2:
        forms.remove("index list")
    if width % 2 == 0 and width > 2:
        forms.append("glu")
    if width % 4 == 0 and width > 4:
        forms.append("pixel_shuffle")
    return Rearranged.of(draw(st.sampled_from(forms)), width)


def split(draw: Draw, width: int, depth: int) -> tuple[nn.Module, int]:
    """Parts of the channels, put together again."""
    if width % 2:
        return convolution(draw, width, width), width
    half = width // 2
    form = draw(st.sampled_from(Split.FORMS))
    mixed = draw(st.sampled_from(["joined", "swapped", "added", "shuffled"]))
    first = half if form in ("chunk", "unbind") or mixed == "added" else draw(st.integers(1, half))
    body, out = block(draw, first, depth)
    second = width - first
    if out != second and mixed in ("added", "shuffled"):
        body = nn.Sequential(body, convolution(draw, out, second))
        out = second
    return Split(form, (first, second), body, mixed), second + (out if mixed != "added" else 0)


def joined(draw: Draw, kind: str, width: int, depth: int) -> tuple[nn.Module, int]:
    """Branches over the same maps."""
    bodies = [block(draw, width, depth) for _ in range(draw(st.integers(1, 2)))]
    if kind == "concatenated":
        form = draw(st.sampled_from(Concatenated.FORMS))
        out = sum(inner for _, inner in bodies) + (width if form == "dense" else 0)
        return Concatenated(form, [body for body, _ in bodies]), out
    out = bodies[0][1]
    fitted = [
        body if inner == out else nn.Sequential(body, convolution(draw, inner, out))
        for body, inner in bodies
    ]
    if kind == "stacked":
        return Stacked(draw(st.sampled_from(Stacked.FORMS)), fitted), out
    shortcut = None
    if out != width or draw(st.booleans()):
        shortcut = convolution(draw, width, out)
    return Residual(draw(st.sampled_from(Residual.FORMS)), fitted[0], shortcut), out


@st.composite
def networks(draw: Draw) -> Drawn:
    """A network, and the shapes of its inputs."""
    width = draw(st.sampled_from(WIDTHS))
    shapes, joins = [(3, SIDE, SIDE)], [convolution(draw, 3, width)]
    if draw(st.booleans()):
        shapes.append((2, SIDE, SIDE))
        joins.append(convolution(draw, 2, width))
    blocks = []
    for _ in range(draw(st.integers(1, 3))):
        body, width = block(draw, width, depth=2)
        blocks.append(body)
    form = draw(st.sampled_from(Network.FORMS))
    count = 1 if form == "tensor" else 2
    heads = [Head(draw(st.sampled_from(Head.FORMS)), width) for _ in range(count)]
    return Network(form, joins, blocks, heads), shapes
