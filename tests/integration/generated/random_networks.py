"""Networks that nobody chose: small ones of drawn blocks, for hypothesis.

A block maps maps of `width` channels to others, and leaves their side alone. The maps have one, two
or three axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st
from torch import nn

from .random_blocks import (
    Concatenated,
    Conditioned,
    Growing,
    Head,
    Looped,
    Network,
    Pair,
    Paired,
    Residual,
    Resized,
    Stacked,
    Twice,
)
from .random_layers import (
    Attention,
    FunctionalConvolution,
    Gated,
    InTraining,
    Masked,
    Modulated,
    Recurrent,
    Scaled,
    Tokens,
)
from .random_moves import Rearranged, Shuffled, Split

SIDE = 4  # of the input maps
WIDTHS = (2, 3, 4, 6, 8, 12)

Draw = Callable[[st.SearchStrategy[Any]], Any]
Shapes = list[tuple[int, ...]]  # of the inputs, without the batch
Drawn = tuple[nn.Module, Shapes]
Block = tuple[nn.Module, int]  # and the width that it gives


class Drawing:
    """Draws the blocks of one network.

    Args:
        draw: hypothesis's.
        rank: how many axes the maps have.
    """

    def __init__(self, draw: Draw, rank: int) -> None:
        self.draw, self.rank = draw, rank
        self.made: dict[int, list[Block]] = {}  # what has been drawn, by the width that it takes

    def among(self, choices: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(choices))

    def layer(self, name: str) -> Any:
        """A class of layers for maps of this rank."""
        return getattr(nn, f"{name}{self.rank}d")

    def convolution(self, width: int, out: int) -> nn.Module:
        """A convolution of any kind, a norm and an activation."""
        kind = self.among(
            ["3x3", "1x1", "grouped", "depthwise", "dilated", "transposed", "function"]
        )
        groups = 1
        if kind in ("grouped", "transposed", "function"):
            groups = self.among([g for g in (1, 2, 3, 4, 6) if width % g == out % g == 0])
        if kind == "function":
            form = self.among(FunctionalConvolution.FORMS)
            return FunctionalConvolution(form, self.rank, width, out, groups)
        convolution, layers = self.layer("Conv"), []
        if kind == "depthwise":
            times = self.among([1, 2])
            bias = self.draw(st.booleans())
            layers.append(convolution(width, times * width, 3, padding=1, groups=width, bias=bias))
            width *= times
        if kind == "transposed":
            transposed = self.layer("ConvTranspose")
            layers += [
                transposed(width, out, 2, stride=2, groups=groups),
                self.layer("AvgPool")(2),
            ]
        elif kind in ("1x1", "depthwise"):
            layers.append(convolution(width, out, 1))
        else:
            spread = 2 if kind == "dilated" else 1
            layers.append(
                convolution(width, out, 3, padding=spread, dilation=spread, groups=groups)
            )
        layers += [*self.norm(out), *self.activation(out)]
        return nn.Sequential(*layers)

    def stem(self, width: int, out: int) -> nn.Module:
        """A layer that reads an input, all of which stays."""
        layer = self.layer("Conv")(width, out, 3, padding=1)
        return nn.Sequential(layer, *self.norm(out), *self.activation(out))

    def norm(self, width: int) -> list[nn.Module]:
        groups = [g for g in (1, 2, 3, 4, 6) if width % g == 0]
        kinds = {
            "none": lambda: [],
            "batch": lambda: [self.layer("BatchNorm")(width)],
            "group": lambda: [nn.GroupNorm(self.among(groups), width)],
            "instance": lambda: [self.layer("InstanceNorm")(width, affine=True)],
            "of maps": lambda: [nn.LayerNorm([SIDE] * self.rank)],
        }
        return kinds[self.among(sorted(kinds))]()

    def activation(self, width: int) -> list[nn.Module]:
        kinds = {
            "none": lambda: [],
            "relu": lambda: [nn.ReLU(inplace=True)],
            "gelu": lambda: [nn.GELU()],
            "sigmoid": lambda: [nn.Sigmoid()],
            "prelu": lambda: [nn.PReLU(width)],
            "dropout": lambda: [nn.Hardswish(), nn.Dropout(0.2)],
        }
        return kinds[self.among(sorted(kinds))]()

    def block(self, width: int, depth: int) -> Block:
        """A drawn block, blocks within it."""
        kinds = [
            self.plain,
            self.plain,
            self.again,
            self.rearranged,
            self.gated,
            self.of_one_width,
            self.shuffled,
            self.attention,
        ]
        if depth:
            kinds += [
                self.residual,
                self.concatenated,
                self.concatenated,
                self.split,
                self.split,
                self.stacked,
                self.row,
                self.looped,
                self.growing,
                self.resized,
                self.paired,
                self.in_training,
            ]
        drawn: Block = self.among(kinds)(width, depth - 1)
        self.made.setdefault(width, []).append(drawn)
        return drawn

    def fitted(self, width: int, out: int, depth: int) -> nn.Module:
        """A drawn block that gives a certain width."""
        body, inner = self.block(width, depth)
        return body if inner == out else nn.Sequential(body, self.convolution(inner, out))

    def plain(self, width: int, _depth: int) -> Block:
        out = self.among(WIDTHS)
        return self.convolution(width, out), out

    def again(self, width: int, depth: int) -> Block:
        """A block that lies elsewhere, too."""
        made = self.made.get(width)
        return self.among(made) if made else self.plain(width, depth)

    def rearranged(self, width: int, _depth: int) -> Block:
        """Channels in other places, in a form that this width allows."""
        forms = list(Rearranged.FORMS)
        if width < 2:
            forms = [form for form in forms if form not in ("index list", "from the second")]
        if width % 2 == 0 and width > 2:
            forms += ["glu", "maximum of halves"]
        if self.rank == 2:
            forms += ["pixel_unshuffle"]
            forms += ["pixel_shuffle"] if width % 4 == 0 and width > 4 else []
        return Rearranged.of(self.among(forms), width)

    def gated(self, width: int, _depth: int) -> Block:
        inner = self.among(WIDTHS)
        return Gated(self.among(Gated.FORMS), self.rank, width, inner), width

    def of_one_width(self, width: int, _depth: int) -> Block:
        """What leaves the width alone."""
        kinds = {
            "scaled": lambda: Scaled(self.among(Scaled.FORMS), self.rank, width, SIDE),
            "modulated": lambda: Modulated(self.among(Modulated.FORMS), width),
            "tokens": lambda: Tokens(self.among(Tokens.FORMS), width, self.among(WIDTHS)),
            "recurrent": lambda: Recurrent(
                self.among(Recurrent.FORMS), width, self.among(WIDTHS), self.among([1, 2])
            ),
            "twice": lambda: Twice(self.convolution(width, width)),
            "masked": lambda: Masked(self.among(Masked.FORMS)),
            "conditioned": lambda: Conditioned(self.among(Conditioned.FORMS), width),
        }
        return kinds[self.among(sorted(kinds))](), width

    def shuffled(self, width: int, _depth: int) -> Block:
        groups = self.among([g for g in (1, 2, 3, 4, 6) if width % g == 0])
        forms = Shuffled.FORMS + (Shuffled.FORMS_OF_IMAGES if self.rank == 2 else ())
        return Shuffled(self.among(forms), width, groups), width

    def attention(self, width: int, _depth: int) -> Block:
        form = self.among(Attention.FORMS)
        heads = 1 if form == "one head" else self.among([1, 2, 3])
        return Attention(form, width, heads, self.among([1, 2, 4])), width

    def residual(self, width: int, depth: int) -> Block:
        body, out = self.block(width, depth)
        shortcut = None
        if out != width or self.draw(st.booleans()):
            shortcut = self.convolution(width, out)
        return Residual(self.among(Residual.FORMS), body, shortcut), out

    def concatenated(self, width: int, depth: int) -> Block:
        bodies = [self.block(width, depth) for _ in range(self.draw(st.integers(1, 3)))]
        form = self.among(Concatenated.FORMS)
        added = {"dense": width, "nested": 2 * width + bodies[0][1]}.get(form, 0)
        out = sum(inner for _, inner in bodies) + added
        return Concatenated(form, [body for body, _ in bodies]), out

    def split(self, width: int, depth: int) -> Block:
        """Parts of the channels, put together again."""
        if width % 2:
            return self.plain(width, depth)
        half = width // 2
        form, mixed = self.among(Split.FORMS), self.among(Split.MIXED)
        meets = mixed in ("added", "gated")
        first = half if form in Split.EVEN or meets else self.draw(st.integers(1, half))
        second = width - first
        if meets or mixed == "shuffled":
            body, out = self.fitted(first, second, depth), second
        else:
            body, out = self.block(first, depth)
        return Split(form, (first, second), body, mixed), second + (0 if meets else out)

    def stacked(self, width: int, depth: int) -> Block:
        first, out = self.block(width, depth)
        others = [self.fitted(width, out, depth) for _ in range(self.draw(st.integers(0, 2)))]
        return Stacked(self.among(Stacked.FORMS), [first, *others]), out

    def row(self, width: int, depth: int) -> Block:
        first, inner = self.block(width, depth)
        second, out = self.block(inner, depth)
        return nn.Sequential(first, second), out

    def looped(self, width: int, depth: int) -> Block:
        """Layers of one width; perhaps one layer several times."""
        layers = [self.fitted(width, width, depth) for _ in range(self.draw(st.integers(1, 3)))]
        if self.draw(st.booleans()):
            layers.append(layers[0])
        return Looped(self.among(Looped.FORMS), layers), width

    def growing(self, width: int, depth: int) -> Block:
        layers, out = [], width
        for _ in range(self.draw(st.integers(1, 3))):
            layer, inner = self.block(out, depth)
            layers.append(layer)
            out += inner
        return Growing(self.among(Growing.FORMS), layers), out

    def resized(self, width: int, _depth: int) -> Block:
        form, out = self.among(Resized.FORMS), self.among(WIDTHS)
        body = nn.Sequential(self.layer("Conv")(width, out, 1), *self.activation(out))
        return Resized(form, self.rank, body), out + (width if form == "cat" else 0)

    def paired(self, width: int, depth: int) -> Block:
        left, inner = self.block(width, depth)
        right, other = self.block(inner, depth)
        last, out = self.plain(inner + other, depth)
        return Paired(Pair(left, right), last), out

    def in_training(self, width: int, depth: int) -> Block:
        body = self.fitted(width, width, depth)
        return InTraining(self.among(InTraining.FORMS), body), width


@st.composite
def networks(draw: Draw) -> Drawn:
    """A network, and the shapes of its inputs."""
    rank = draw(st.sampled_from([2, 2, 2, 1, 3]))
    drawing = Drawing(draw, rank)
    maps = (SIDE,) * rank
    width = drawing.among(WIDTHS)
    shapes, joins = [(3, *maps)], [drawing.stem(3, width)]
    if draw(st.booleans()):
        shapes.append((2, *maps))
        joins.append(drawing.stem(2, width))
    blocks = []
    for _ in range(draw(st.integers(1, 3))):
        body, width = drawing.block(width, depth=2)
        blocks.append(body)
    form = drawing.among(Network.FORMS)
    count = 1 if form == "tensor" else 2
    heads = [Head(drawing.among(Head.FORMS), rank, width) for _ in range(count)]
    return Network(form, joins, blocks, heads), shapes
