"""Networks that compute with the sizes of what they are given: tokens, maps, masks and numbers."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

WIDTHS = (4, 6, 8)
TOKENS = 11


class Sized(nn.Module):
    """A layer around what a form does with the sizes of a map."""

    def __init__(self, form: str, number: float, width: int, wide: int) -> None:
        super().__init__()
        self.form, self.number = form, number
        self.layer, self.back = nn.Conv2d(width, wide, 1), nn.Conv2d(wide, width, 1)

    def extra_repr(self) -> str:
        return f"{self.form}, {self.number}"

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        x = torch.tanh(self.layer(x))
        n, c, h, w = x.shape
        if self.form == "shrunk":
            y = F.adaptive_avg_pool2d(x, (max(1, int(h * self.number)), max(1, round(w / 2))))
            x = F.interpolate(y, size=(h, w))
        elif self.form == "square":
            side = max(h, w)
            x = F.interpolate(x, size=(side, side))[:, :, :h, :w] * float(h)
        elif self.form == "padded":
            x = F.pad(x, (0, -w % 4, 0, (4 - h % 4) % 4)).amax(3, keepdim=True)[:, :, :h]
        elif self.form == "cropped":
            rows, rest = divmod(h, 2)
            x = x[:, :, : max(rows * 2, 1)].mean((2, 3), keepdim=True) + rest
        elif self.form == "flat":
            rows = x.flatten(2).transpose(1, 2)
            side = int(math.sqrt(rows.shape[1]))
            x = x + rows[:, : side**2].mean(1).view(n, c, 1, 1) / side
        elif self.form == "tuple":
            x = x.view((*x.shape[:2], -1)).softmax(-1).view(x.size()[:2] + x.shape[2:])
        elif self.form == "places":
            ys = torch.linspace(0, 1, h, dtype=x.dtype, device=x.device)
            x = x * ys[:, None] + torch.arange(w, device=x.device) / w
        elif self.form == "counted":
            parts = x.permute(0, 2, 3, 1).reshape(-1, c)
            x = parts.view(int(parts.shape[0] / (h * w)), h, w, c).permute(0, 3, 1, 2) * (h * w)
        else:
            x = x - x.sum((2, 3), keepdim=True) / (x.shape[2] * min(x.shape[3], 3))
        return identity + self.back(x)


FORMS = ["shrunk", "square", "padded", "cropped", "flat", "tuple", "places", "counted", "plain"]


class Net(nn.Module):
    """Tokens or maps, blocks, and a mask and a number at the end."""

    def __init__(self, blocks: list[nn.Module], width: int, reads_tokens: bool) -> None:
        super().__init__()
        self.first = nn.Embedding(TOKENS, width) if reads_tokens else nn.Conv2d(3, width, 1)
        self.blocks = nn.ModuleList(blocks)
        self.reads_tokens = reads_tokens
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor, mask: Tensor | None = None, scale: float = 1.0) -> Tensor:
        x = self.first(x)
        if self.reads_tokens:
            x = x.permute(0, 3, 1, 2)
        for block in self.blocks:
            x = block(x)
        x = x * scale
        if mask is not None:
            x = x * mask.unsqueeze(1).to(x.dtype)
        return self.head(x.mean((2, 3)))


class Sizes(NamedTuple):
    """A network, and what it is called with at some sizes."""

    model: nn.Module
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]]


@st.composite
def sized(draw: st.DrawFn) -> Sizes:
    """A network that computes with sizes, and calls of it at three of them."""
    width, reads_tokens = draw(st.sampled_from(WIDTHS)), draw(st.booleans())
    forms = draw(st.lists(st.sampled_from(FORMS), min_size=1, max_size=3))
    blocks: list[nn.Module] = [
        Sized(form, draw(st.sampled_from([0.4, 0.5, 0.7])), width, draw(st.sampled_from(WIDTHS)))
        for form in forms
    ]
    kind = draw(st.sampled_from(["alone", "mask", "mask by name", "number", "both"]))
    sides = st.tuples(st.integers(2, 9), st.integers(2, 9))
    calls = []
    for h, w in [draw(sides) for _ in range(3)]:
        x = torch.randint(TOKENS, (2, h, w)) if reads_tokens else torch.rand(2, 3, h, w)
        mask = torch.arange(2 * h * w).view(2, h, w) % 3 > 0
        args: tuple[Any, ...] = (x,)
        named: dict[str, Any] = {}
        if kind in ("mask", "both"):
            args = (x, mask)
        if kind == "mask by name":
            named["mask"] = mask
        if kind in ("number", "both"):
            named["scale"] = 0.5
        calls.append((args, named))
    return Sizes(Net(blocks, width, reads_tokens), calls)
