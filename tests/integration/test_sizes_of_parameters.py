"""Sizes of the input beside those of parameters, buffers and channels: followed, not folded."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import prunecore
from prunecore import VerificationError

SIZES = [(16, 16), (20, 16), (15, 17), (8, 16), (7, 16), (16, 12), (1, 3)]


class Net(nn.Module):
    """Layers, parameters and a table; and a function of them and an image."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 8, 1)
        self.last = nn.Conv2d(8, 4, 1)
        self.places = nn.Parameter(torch.randn(1, 12, 16, 1))
        self.relative = nn.Parameter(torch.randn(7, 1))
        self.register_buffer("table", torch.rand(16, 4))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.function(self, self.first(x))
        return self.last(self.second(y.relu()).relu())


def is_above(net: Any, x: Tensor) -> Tensor:
    if x.shape[2] > net.table.shape[0]:
        x = x * 2
    return x


def is_of_one_size(net: Any, x: Tensor) -> Tensor:
    if x.shape[2] == net.places.shape[2]:
        return x + net.places
    return x * 2


def is_of_one_shape(net: Any, x: Tensor) -> Tensor:
    if x.shape[1:3] == net.places.shape[1:3]:
        return x + net.places
    return x * 2


def is_another(net: Any, x: Tensor) -> Tensor:
    if x.shape[2] != net.places.shape[2] - 1:
        return x * 0.5
    return x * 2


def is_no_multiple(net: Any, x: Tensor) -> Tensor:
    if x.shape[2] % net.relative.shape[0]:
        x = x * 2
    return x


def at_most(net: Any, x: Tensor) -> Tensor:
    return x / min(net.relative.size(0), x.size(2))


def by_lengths(net: Any, x: Tensor) -> Tensor:
    return x * len(net.places[0]) / len(net.first.bias) * len(x[0])


def at_most_channels(net: Any, x: Tensor) -> Tensor:
    return x * min(x.shape[1], x.shape[2])


def at_least(net: Any, x: Tensor) -> Tensor:
    return x / math.sqrt(max(1, net.first.weight.shape[2] * x.shape[2]))


def cuts(net: Any, x: Tensor) -> Tensor:
    return x[:, :, : min(x.shape[2], net.table.shape[0])]


def is_large(net: Any, x: Tensor) -> Tensor:
    return x * 2 if x.shape[1] * x.shape[2] > 100 else x


def whole_half(net: Any, x: Tensor) -> Tensor:
    return x * int(x.shape[1] * x.shape[2] * 0.5)


def by_a_product(net: Any, x: Tensor) -> Tensor:
    return x * (x.shape[1] * x.shape[2])


def by_a_root(net: Any, x: Tensor) -> Tensor:
    return x / math.sqrt(x.shape[1] * x.shape[2])


def by_a_power(net: Any, x: Tensor) -> Tensor:
    return x * (x.shape[1] * x.shape[2]) ** -0.5


def rounds_up(net: Any, x: Tensor) -> Tensor:
    return x * math.ceil(x.shape[2] / x.shape[1])


def fits_channels_last(net: Any, x: Tensor) -> Tensor:
    y = x.permute(0, 2, 3, 1)
    z = F.interpolate(F.avg_pool2d(x, (1, 2)), scale_factor=(1.0, 2.0)).permute(0, 2, 3, 1)
    if y.shape != z.shape:
        z = F.interpolate(z.permute(0, 3, 1, 2), size=x.shape[2:]).permute(0, 2, 3, 1)
    return (y + z).permute(0, 3, 1, 2)


def masked(model: nn.Module, kept: dict[str, Any]) -> nn.Module:
    """A copy of a network in float64, zeros in the places of what went."""
    result = copy.deepcopy(model).double().eval()
    stored = {**dict(result.named_parameters()), **dict(result.named_buffers())}
    for name, axes in kept.items():
        for axis, places in enumerate(axes):
            if places is not None:
                mask = torch.zeros(stored[name].shape[axis], dtype=torch.bool)
                mask[places] = True
                gone = (~mask).nonzero().ravel()
                stored[name].data.index_fill_(axis, gone, 0)
    return result


def check(model: nn.Module, sizes: Any = SIZES, level: int = 40) -> Any:
    """Prune a network and compare what it returns for images of several sizes."""
    small = prunecore.prune(model.eval(), torch.randn(2, 3, 16, 16), level, verify=False)
    original, written = masked(model, small.report["kept"]), small.model.double()
    for size in sizes:
        x = torch.randn(3, 3, *size, dtype=torch.float64)
        with torch.no_grad():
            torch.testing.assert_close(written(x), original(x), rtol=1e-9, atol=1e-9)
    return small


@pytest.mark.parametrize(
    "function",
    [
        is_above,
        is_of_one_size,
        is_of_one_shape,
        is_another,
        is_no_multiple,
        at_most,
        by_lengths,
        at_most_channels,
        at_least,
        cuts,
        is_large,
        whole_half,
        by_a_product,
        by_a_root,
        by_a_power,
        rounds_up,
        fits_channels_last,
    ],
)
def test_a_size_of_the_input_is_followed(function: Any) -> None:
    torch.manual_seed(0)
    small = check(Net(function))
    assert "_assert" not in small.source
    assert {one["layer"] for one in small.report["left_whole"]} <= {"places"}


def test_what_parameters_alone_tell_is_no_branch() -> None:
    def function(net: Any, x: Tensor) -> Tensor:
        count = max(net.table.shape[0], 4)
        if net.places.shape[2] == net.table.shape[0]:
            x = x * count
        return x

    source = check(Net(function)).source
    assert " * 16" in source
    assert "==" not in source


def test_a_way_that_does_not_fit_is_asserted() -> None:
    def function(net: Any, x: Tensor) -> Tensor:
        if x.shape[2] != net.places.shape[2] - 1:
            return x * 0.5
        return x + net.places[:, :, 2:]  # which is shorter than any input that comes here

    torch.manual_seed(0)
    small = check(Net(function), [(16, 16), (12, 3)])
    with pytest.raises(AssertionError, match="written for inputs of another size"):
        small.model(torch.randn(1, 3, 15, 16).double())


class SamePadded(nn.Conv2d):
    """Pads as TensorFlow does, by the size of its weight."""

    def forward(self, x: Tensor) -> Tensor:
        ih, iw = x.shape[-2:]
        kh, kw = self.weight.shape[-2:]
        oh, ow = -(-ih // self.stride[0]), -(-iw // self.stride[1])
        rows = max((oh - 1) * self.stride[0] + kh - ih, 0)
        columns = max((ow - 1) * self.stride[1] + kw - iw, 0)
        if rows > 0 or columns > 0:
            x = F.pad(x, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
        return F.conv2d(x, self.weight, self.bias, self.stride)


def test_padding_by_the_size_of_a_weight() -> None:
    torch.manual_seed(0)
    layers = [SamePadded(3, 16, 3, 2), nn.ReLU(), SamePadded(16, 12, 5, 3), SamePadded(12, 4, 1)]
    small = check(nn.Sequential(*layers), [*SIZES[:6], (21, 27), (9, 9)])
    assert small.report["left_whole"] == []


class Positions(nn.Module):
    """DINO's way with positions: those of another size are interpolated."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.head = nn.Conv2d(3, 24, 4, 4), nn.Linear(24, 5)
        self.pos_embed = nn.Parameter(torch.randn(1, 17, 24))
        self.first, self.second = nn.Linear(24, 48), nn.Linear(48, 24)
        self.cls = nn.Parameter(torch.zeros(1, 1, 24))

    def positions(self, x: Tensor, w: int, h: int) -> Tensor:
        npatch, n = x.shape[1] - 1, self.pos_embed.shape[1] - 1
        if npatch == n and w == h:
            return self.pos_embed
        side, dim = int(n**0.5), x.shape[-1]
        own = self.pos_embed[:, 1:].reshape(1, side, side, dim).permute(0, 3, 1, 2)
        own = F.interpolate(own, size=(w // 4, h // 4), mode="bicubic")
        own = own.permute(0, 2, 3, 1).reshape(1, -1, dim)
        return torch.cat((self.pos_embed[:, :1], own), 1)

    def forward(self, x: Tensor) -> Tensor:
        w, h = x.shape[2:]
        y = self.patch(x).flatten(2).transpose(1, 2)
        y = torch.cat((self.cls.expand(y.shape[0], -1, -1), y), 1)
        y = y + self.positions(y, w, h)
        y = y + self.second(F.gelu(self.first(y)))
        head: Tensor = self.head(y[:, 0])
        return head


def test_positions_are_interpolated_for_another_size() -> None:
    torch.manual_seed(0)
    check(Positions(), [(16, 16), (24, 24), (8, 32), (12, 20), (4, 4)])


@pytest.mark.parametrize(
    "number",
    [
        lambda x: max(x.numel(), 4),
        lambda x: x.numel(),
        lambda x: x.flatten(1).shape[1],
        lambda x: 2 if x.flatten(1).shape[1] > 3000 else 1,
        lambda x: min(x.flatten(1).shape[1] // x.shape[1], 40),
    ],
)
def test_a_number_of_channels_and_other_places_keeps_the_channels(number: Any) -> None:
    torch.manual_seed(0)
    small = check(Net(lambda _, x: x * number(x)), level=10)
    assert "first" in {one["layer"] for one in small.report["left_whole"]}


def test_an_empty_tensor_is_told() -> None:
    torch.manual_seed(0)
    small = check(Net(lambda _, x: x * 2 if x.numel() == 0 else x))
    assert "x.numel() == 0" in small.source
    assert "first" not in {one["layer"] for one in small.report["left_whole"]}


def test_a_size_that_is_folded_is_found(tmp_path: Path) -> None:
    model = Net(lambda _, x: x * max(x.shape[1], x.shape[2])).eval()
    file, *_ = prunecore.prune(model, torch.randn(2, 3, 16, 16), 40).save(tmp_path / "net.py")
    text = file.read_text()
    assert "max(12, x.shape[2])" in text
    file.write_text(text.replace("max(12, x.shape[2])", "16"))
    with pytest.raises(VerificationError, match=r"for inputs of shape \(1, 3, 17, 17\)"):
        prunecore.verify(file, model)
