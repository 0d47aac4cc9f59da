"""Forwards drawn as text that call what cannot be followed, leave arguments out and count sizes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from .random_forwards import WIDTHS, Draw, Drawing, Text, drawn

SIDE = 2


class Sharpened(torch.autograd.Function):
    """A function with a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x.abs()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * gradients[0] * x.abs()


class Deciding(nn.Module):
    """Does one thing or another, whatever the numbers say."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        if x.abs().mean() > 0.5:
            return self.layer(x).tanh()
        return x - self.layer(x)


class Choosing(nn.Module):
    """Takes a mask, a shift and a scale, none of which it needs."""

    def __init__(self, layer: nn.Module, places: str) -> None:
        super().__init__()
        self.layer, self.places = layer, places

    def forward(
        self, x: Tensor, mask: Tensor | None = None, scale: float = 1.0, *, shift: Any = None
    ) -> Tensor:
        x = self.layer(x) * scale
        if shift is not None:
            x = x + shift
        if mask is None:
            return x
        return x * mask if self.places == "all" else x.masked_fill(mask > 0.5, 0.25)


# What gives a tensor of maps or rows another shape and its own again.
SIZES = (
    "{0}.view({0}.size()[:-1] + (-1,))",
    "{0}.reshape(*{0}.shape[:2], -1).reshape({0}.size())",
    "{0}.reshape({0}.shape[:2] + (-1,)).view(list({0}.shape))",
    "{0}.view((*{0}.shape[:-1], {0}.shape[-1]))",
    "{0}.reshape(torch.Size([{0}.shape[0], -1])).view({0}.shape)",
    "{0}.reshape({0}.shape[0], math.prod({0}.shape[1:])).view({0}.size())",
    "{0}.reshape(len({0}), int(np.prod({0}.shape[1:]))).view_as({0})",
    "{0}.reshape([-1] + list({0}.shape[1:]))",
    "{0}.reshape(({0}.shape[0],) + tuple({0}.shape[1:]))",
    "{0}.expand({0}.shape).reshape(-1, *{0}.size()[1:])",
    "{0}.new_ones({0}.shape) * {0}",
    "{0}.flatten(1).reshape({0}.size())",
)
SIZES_OF_MAPS = (
    "{0}.view({0}.size(0), 2, {0}.size(1) // 2, *{0}.shape[2:]).flatten(1, 2)",
    "{0}.view({0}.shape[0], 2, -1, *{0}.shape[-2:]).view({0}.shape)",
    "{0}.flatten(2).transpose(1, 2).transpose(1, 2).view({0}.shape[:2] + {0}.shape[2:])",
)
SIZES_OF_ROWS = (
    "{0}.view({0}.size()[:-1] + (2, {0}.size(-1) // 2)).flatten(-2)",
    "{0}.view(*{0}.shape[:-1], 2, -1).transpose(1, 2).transpose(1, 2).flatten(2)",
    "{0}.reshape(-1, {0}.shape[-1]).view({0}.shape)",
    "{0}.reshape(({0}.shape[0], -1, 2, {0}.shape[2] // 2)).reshape({0}.shape[:2] + (-1,))",
)
BARRIERS = (
    "torch.logcumsumexp({0}, {1})",
    "torch.fft.fft({0}, dim={1}).real",
    "torch.renorm({0}, 2, 0, 5.0)",
    "torch.cummax({0}, {1}).values",
    "torch.special.i0e({0})",
)


class Calling(Drawing):
    """Draws statements that call these, too."""

    def expression(self, depth: int = 2) -> Text:
        """One of these, or what others draw."""
        if not depth or self.among([True, True, False]):
            return super().expression(depth)
        kinds = [self.barred, self.decided, self.chosen, self.chosen, self.counted, self.counted]
        return self.among(kinds)(depth - 1)

    def barred(self, depth: int) -> Text:
        text, width = self.expression(depth)
        form = self.among([*BARRIERS, "Sharpened.apply({0})", "Sharpened.apply({0})"])
        return form.format(f"({text})", self.axis), width

    def decided(self, depth: int) -> Text:
        text, width = self.expression(depth)
        return f"{self.child('deciding', Deciding(self.layer(width, width)))}({text})", width

    def chosen(self, depth: int) -> Text:
        """A call with some of the arguments, by place or by name."""
        text, width = self.expression(depth)
        module = Choosing(self.layer(width, width), self.among(["all", "some"]))
        mask = f"torch.sigmoid({self.fitted(self.expression(0), width)})"
        shift = self.fitted(self.expression(0), width)
        forms = (
            "{0}({1})",
            "{0}({1}, {2})",
            "{0}({1}, mask={2})",
            "{0}({1}, None, 0.5)",
            "{0}({1}, scale=2.0, shift={3})",
            "{0}(mask={2}, x={1}, shift={3})",
            "{0}(({1}), {2}, 0.5, shift=None)",
        )
        return self.among(forms).format(self.child("choosing", module), text, mask, shift), width

    def counted(self, _depth: int) -> Text:
        """A variable whose shape is given in one of its spellings."""
        name, width = self.variable()
        own = SIZES_OF_ROWS if self.has_rows else SIZES_OF_MAPS
        form = self.among([*SIZES, *(own if width % 2 == 0 else ())])
        return f"({form.format(name)})", width


@st.composite
def calls(draw: Draw) -> tuple[nn.Module, list[tuple[int, ...]]]:
    """A network with such a forward, and the shapes of its inputs, one of which it may lack."""
    drawing = Calling(draw, draw(st.booleans()))
    width = drawing.among(WIDTHS)
    shape = (SIDE, width) if drawing.has_rows else (width, SIDE, SIDE)
    drawing.variables["x"] = width
    if draw(st.booleans()):
        drawing.assign(*drawing.through(drawing.variable()))
    is_given = draw(st.booleans())
    drawing.add("if extra is not None:")
    drawing.indent += 4
    drawing.add("x = x.mean() + extra" if drawing.variables["x"] != width else "x = x + extra")
    drawing.indent -= 4
    if is_given:
        drawing.variables["x"] = width
        drawing.variables["extra"] = width
    drawing.block(2, 1, 6)
    text = "\n".join(
        [
            "def forward(self, x, extra=None):",
            *drawing.lines,
            f"    return {drawing.result()}",
        ]
    )
    known = {"math": math, "np": np, "Sharpened": Sharpened}
    return drawn(drawing.children, text + "\n", **known), [shape] * (1 + is_given)
