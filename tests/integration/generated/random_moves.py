"""Blocks that networks are drawn of: they move channels about, or take some of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

from .random_layers import Chosen


class Split(Chosen):
    """Parts of the channels, of which the first goes through a body."""

    FORMS = ("chunk", "split", "by size", "slices", "unbind", "narrow", "tensor_split", "keywords")
    EVEN = ("chunk", "by size", "unbind", "tensor_split")  # those that make halves
    MIXED = ("joined", "swapped", "added", "shuffled", "gated")

    def __init__(self, form: str, sizes: tuple[int, int], body: nn.Module, mixed: str) -> None:
        super().__init__(form)
        self.sizes = sizes
        self.body = body
        self.mixed = mixed  # what becomes of the parts

    def extra_repr(self) -> str:
        return f"{self.form}, {self.mixed}"

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.parts(x)
        first = self.body(first)
        if self.mixed == "swapped":
            return torch.cat((second, first), 1)
        if self.mixed == "added":
            return first + second
        if self.mixed == "gated":
            return torch.mul(first, second.sigmoid())
        x = torch.cat((first, second), 1)
        return shuffled(x, 2, "reshape") if self.mixed == "shuffled" else x

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = self.sizes
        if self.form == "chunk":
            a, b = x.chunk(2, dim=1)
        elif self.form == "split":
            a, b = torch.split(x, [first, second], dim=1)
        elif self.form == "keywords":
            a, b = torch.split(x, dim=1, split_size_or_sections=(first, second))
        elif self.form == "by size":
            a, b = torch.split(x, x.shape[1] // 2, dim=1)
        elif self.form == "tensor_split":
            a, b = torch.tensor_split(x, 2, dim=1)
        elif self.form == "unbind":
            a, b = x.unflatten(1, (2, first)).unbind(1)
        elif self.form == "narrow":
            a, b = x.narrow(1, 0, first), x.narrow(dim=1, start=first, length=second)
        else:
            a, b = x[:, :first], x[:, -second:, ...]
        return a, b


class Shuffled(Chosen):
    FORMS = ("reshape", "unflatten", "module", "function", "literal")
    FORMS_OF_IMAGES = ("view",)

    def __init__(self, form: str, width: int, groups: int) -> None:
        super().__init__(form)
        self.groups, self.each = groups, width // groups
        self.layer = nn.ChannelShuffle(groups) if form == "module" else None

    def extra_repr(self) -> str:
        return f"{self.form}, {self.groups}"

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "literal":
            y = x.view(-1, self.groups, self.each, *x.shape[2:])
            return y.transpose(1, 2).flatten(1, 2)
        return shuffled(x, self.groups, self.form) if self.layer is None else self.layer(x)


def shuffled(x: Tensor, groups: int, form: str) -> Tensor:
    if form == "function":
        return torch.channel_shuffle(x, groups)
    if form == "unflatten":
        return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
    if form == "reshape":
        y = x.reshape(x.shape[0], groups, x.shape[1] // groups, -1)
        return y.swapaxes(1, 2).reshape(x.shape)
    batch, channels, height, width = x.size()
    x = x.contiguous().view(batch, groups, channels // groups, height, width)
    return torch.transpose(x, 1, 2).contiguous().view(batch, -1, height, width)


class Rearranged(Chosen):
    """The same channels in other places, fewer or more of them."""

    FORMS = (
        "flip",
        "roll",
        "index list",
        "every second",
        "from the second",
        "repeat_interleave",
        "repeat",
        "index_select",
        "stored index",
        "pad",
        "pad of maps",
        "means",
        "appended zeros",
        "halves",
        "softmax of maps",
        "normalized",
    )

    def forward(self, x: Tensor) -> Tensor:
        if self.form in ("index_select", "stored index"):
            return torch.index_select(x, 1, self.order) if "_" in self.form else x[:, self.order]
        return REARRANGED[self.form](x)

    @classmethod
    def of(cls, form: str, width: int) -> tuple[nn.Module, int]:
        block = cls(form)
        if form in ("index_select", "stored index"):
            block.register_buffer("order", torch.arange(width).flip(0))
        widths = {
            "index list": 3,
            "every second": (width + 1) // 2,
            "from the second": width - 1,
            "repeat_interleave": 2 * width,
            "repeat": 2 * width,
            "pad": width + 3,
            "appended zeros": width + 2,
            "halves": width - width // 2,
            "glu": width // 2,
            "maximum of halves": width // 2,
            "pixel_shuffle": width // 4,
            "pixel_unshuffle": 4 * width,
        }
        return block, widths.get(form, width)


REARRANGED = {
    "flip": lambda x: x.flip(1),
    "roll": lambda x: torch.roll(x, shifts=1, dims=1),
    "index list": lambda x: x[:, [1, 0, 1]],
    "every second": lambda x: x[:, ::2],
    "from the second": lambda x: x[:, 1:],
    "repeat_interleave": lambda x: x.repeat_interleave(2, dim=1),
    "repeat": lambda x: x.flatten(2).repeat(1, 2, 1).unflatten(2, x.shape[2:]),
    "pad": lambda x: F.pad(x.movedim(1, -1), (1, 2)).movedim(-1, 1),
    "pad of maps": lambda x: F.pad(x, (1, 1), mode="constant", value=0.5)[..., 1:-1],
    "means": lambda x: (
        x.flatten(2).mean(2, keepdim=True).expand(-1, -1, x[0, 0].numel()).view_as(x)
    ),
    "appended zeros": lambda x: torch.cat([x, torch.zeros_like(x[:, :1]), x[:, :1] * 0.5], dim=1),
    "halves": lambda x: x[:, x.shape[1] // 2 :],
    "softmax of maps": lambda x: x * torch.softmax(x.flatten(2), dim=-1).reshape(x.shape),
    "normalized": lambda x: F.normalize(x, dim=1),
    "glu": lambda x: F.glu(x, dim=1),
    "maximum of halves": lambda x: torch.maximum(*x.chunk(2, 1)),
    "pixel_shuffle": lambda x: F.avg_pool2d(F.pixel_shuffle(x, 2), 2),
    "pixel_unshuffle": lambda x: F.interpolate(F.pixel_unshuffle(x, 2), scale_factor=2.0),
}


class Step(NamedTuple):
    """A part of an expression that takes places along an axis.

    Attributes:
        text: what stands after a tensor, or with `{}` in its place.
        width: how many places it leaves.
    """

    text: str
    width: int


def steps(width: int, axis: int) -> st.SearchStrategy[Step]:
    """What may be done to a tensor of this width along the axis, in any form."""
    places = st.integers(-width, width - 1)
    before = ":, " * axis
    bounds = st.one_of(st.none(), st.integers(-width - 1, width + 1))
    slices = st.builds(slice, bounds, bounds, st.one_of(st.none(), st.integers(1, 3)))
    numbers = range(width)
    return st.one_of(
        slices.filter(lambda taken: numbers[taken]).map(
            lambda taken: Step(f"[{before}{_written(taken)}]", len(numbers[taken]))
        ),
        st.lists(places, min_size=1, max_size=width).map(
            lambda taken: Step(f"[{before}{taken}]", len(taken))
        ),
        places.map(lambda place: Step(f".select({axis}, {place}).unsqueeze({axis})", 1)),
        places.map(lambda place: Step(f"[{before}{place}].unsqueeze({axis})", 1)),
        st.tuples(places, st.integers(1, width)).map(
            lambda taken: _narrow(axis, taken[0], taken[1], width)
        ),
        st.tuples(st.integers(1, width), places).map(
            lambda taken: _piece(
                f".split({taken[0]}, {axis})", list(_cut(width, taken[0])), taken[1]
            )
        ),
        st.tuples(st.integers(1, width), places).map(
            lambda taken: _piece(
                f".chunk({taken[0]}, {axis})", list(_chunks(width, taken[0])), taken[1]
            )
        ),
        st.tuples(st.integers(1, width), places).map(
            lambda taken: _piece(
                f".tensor_split({taken[0]}, {axis})",
                [len(part) for part in np.array_split(np.arange(width), taken[0])],
                taken[1],
            )
        ),
        st.integers(1, width - 1 or 1).map(
            lambda at: (
                _piece(f".split([{at}, {width - at}], {axis})", [at, width - at], -1)
                if at < width
                else Step(f".flip({axis})", width)
            )
        ),
        st.just(Step(f".flip({axis})", width)),
        st.integers(-width, width).map(lambda by: Step(f".roll({by}, {axis})", width)),
        st.integers(0, width).map(
            lambda at: Step(
                f"torch.cat([{{0}}[{before}{at}:], {{0}}[{before}:{at}]], {axis})", width
            )
        ),
        st.sampled_from([g for g in range(1, width + 1) if width % g == 0]).flatmap(
            lambda groups: st.sampled_from(_grouped(width, groups, axis))
        ),
        st.just(Step(f"torch.stack({{}}.unbind({axis})[::2], {axis})", (width + 1) // 2)),
        st.just(Step(f".repeat_interleave(2, {axis})", 2 * width)),
    )


def _written(taken: slice) -> str:
    bounds = ("" if end is None else str(end) for end in (taken.start, taken.stop))
    return ":".join(bounds) + ("" if taken.step is None else f":{taken.step}")


def _narrow(axis: int, start: int, length: int, width: int) -> Step:
    length = min(length, width - start % width)
    return Step(f".narrow({axis}, {start}, {length})", length)


def _cut(width: int, size: int) -> Iterator[int]:
    for start in range(0, width, size):
        yield min(size, width - start)


def _chunks(width: int, count: int) -> Iterator[int]:
    return _cut(width, -(-width // count))


def _piece(text: str, sizes: list[int], place: int) -> Step:
    place = place % len(sizes) - (len(sizes) if place < 0 else 0)
    return Step(f"{text}[{place}]", sizes[place])


def _grouped(width: int, groups: int, axis: int) -> list[Step]:
    """A shuffle, and places of each group."""
    each = width // groups
    split = f".unflatten({axis}, ({groups}, {each}))"
    joined = f".flatten({axis}, {axis + 1})"
    before = ":, " * axis
    return [
        Step(f"{split}.transpose({axis}, {axis + 1}){joined}", width),
        Step(f"{split}[{before}::2]{joined}", (groups + 1) // 2 * each),
        Step(f"{split}[{before}:, :{(each + 1) // 2}]{joined}", groups * ((each + 1) // 2)),
        Step(f"{split}[{before}-1]", each),
        Step(f"{split}.flip({axis}){joined}", width),
        Step(f"{split}.select({axis + 1}, 0)", groups),
    ]
