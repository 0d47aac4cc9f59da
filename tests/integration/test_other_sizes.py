"""Branches on sizes: written both ways, so that a file takes the sizes that the original takes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import prunecore
from prunecore import VerificationError


class Net(nn.Module):
    """Convolutions of one width, and a function of them and an image."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.down = nn.Conv2d(16, 16, 3, stride=2, padding=1)
        self.same = nn.Conv2d(16, 16, 1)
        self.last = nn.Conv2d(16, 4, 1)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def pads(net: Any, x: Tensor) -> Tensor:
    x = net.first(x).relu()
    h, w = x.shape[-2:]
    if h % 4 or w % 4:
        x = F.pad(x, (0, (4 - w % 4) % 4, 0, (4 - h % 4) % 4))
    return net.last(net.down(x))


def pads_and_cuts(net: Any, x: Tensor) -> Tensor:
    x = net.first(x).relu()
    h, w = x.shape[-2:]
    rows, columns = (4 - h % 4) % 4, (4 - w % 4) % 4
    if rows > 0 or columns > 0:
        x = F.pad(x, (0, columns, 0, rows))
    x = net.same(x)
    if rows > 0 or columns > 0:
        x = x[:, :, :h, :w].contiguous()
    return net.last(x)


def fits(net: Any, x: Tensor) -> Tensor:
    y = net.first(x).relu()
    z = F.interpolate(net.down(y), scale_factor=2.0)
    if z.shape[2:] != y.shape[2:]:
        z = F.interpolate(z, size=y.shape[2:])
    return net.last(y + z)


def small_and_flat(net: Any, x: Tensor) -> Tensor:
    y = net.first(x).relu()
    if x.shape[2] > 4 and x.shape[3] > 4:
        y = net.down(y)
    return net.last(y)


def returns_early(net: Any, x: Tensor) -> Any:
    y = net.first(x).relu()
    if y.shape[2] < 9:
        return net.last(y)
    y = net.down(y)
    return net.last(net.same(y).relu())


def calls_another_layer(net: Any, x: Tensor) -> Tensor:
    y = net.first(x).relu()
    y = net.same(y) if y.shape[2] <= 8 else net.down(y)
    return net.last(y)


def normalises(net: Any, x: Tensor) -> Tensor:
    y = net.first(x).relu()
    if y.shape[2] % 2 == 0:
        y = F.layer_norm(y.permute(0, 2, 3, 1), (16,)).permute(0, 3, 1, 2)
    else:
        y = y - y.mean(1, keepdim=True)
    return net.last(y)


def three_ways(net: Any, x: Tensor) -> Tensor:
    y = net.first(x).relu()
    if x.shape[2] < 5:
        y = net.same(y) * 2
    elif x.shape[2] < 9:
        y = net.down(y)
    else:
        y = net.down(net.same(y))
    return net.last(y)


def takes_halves(net: Any, x: Tensor) -> Tensor:
    y = net.first(x)
    if y.shape[3] > 8:
        one, other = y.chunk(2, 1)
        y = torch.cat([other.relu(), one], 1)
    return net.last(y)


def asks_twice(net: Any, x: Tensor) -> Tensor:
    is_odd = x.shape[2] % 2
    y = net.first(x)
    if x.shape[3] > 4:
        y = y.relu()
    if not is_odd:
        y = net.same(y)
    y = y.tanh()
    if not is_odd:
        y = y * 2
    return net.last(y)


def weighs_corners(net: Any, x: Tensor) -> Tensor:
    h, w = x.shape[2:]
    rows = (h if w <= 4 else 3) if h <= 4 else 4
    y = net.first(x)
    corner = torch.zeros((rows, w), device=x.device)
    corner[: rows - 1] = 1
    return net.last(y * corner.mean())


def adds_in_training(net: Any, x: Tensor) -> Tensor:
    y = net.first(x)
    if net.training:
        y = y + net.same(y)
    if y.shape[2] > 8:
        y = net.down(y)
    return net.last(y)


def adds_in_training_to_large_ones(net: Any, x: Tensor) -> Tensor:
    y = net.first(x)
    if y.shape[2] > 8 and net.training:
        y = y + net.same(y)
    return net.last(y)


def slopes(net: Any, x: Tensor) -> Tensor:
    y = net.first(x)
    return net.last(F.leaky_relu(y, 0.1 if y.shape[2] > 8 else 0.5))


def gives_on_what_it_asks(net: Any, x: Tensor) -> Tensor:
    y = net.first(x)
    y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=y.shape[2] > 4 and True)
    return net.last(y)


SIZES = [(8, 8), (7, 8), (8, 9), (5, 5), (3, 4), (12, 12), (13, 2)]


@pytest.mark.parametrize(
    "function",
    [
        pads,
        pads_and_cuts,
        fits,
        small_and_flat,
        returns_early,
        calls_another_layer,
        normalises,
        three_ways,
        takes_halves,
        asks_twice,
        weighs_corners,
        adds_in_training,
        adds_in_training_to_large_ones,
        slopes,
        gives_on_what_it_asks,
    ],
)
def test_a_written_file_takes_the_sizes_that_the_original_takes(function: Any) -> None:
    torch.manual_seed(0)
    small = prunecore.prune(Net(function).eval(), torch.randn(2, 3, 8, 8), 40)
    assert "_assert" not in small.source
    for size in SIZES:
        x = torch.randn(2, 3, *size)
        with torch.no_grad():
            assert small.model(x).shape == Net(function)(x).shape


def test_what_training_does_at_other_sizes_is_written_and_proven(tmp_path: Path) -> None:
    model = Net(adds_in_training_to_large_ones)
    file, *_ = prunecore.prune(model, torch.randn(2, 3, 8, 8), 40).save(tmp_path / "net.py")
    text = file.read_text()
    assert "y = y + self.same(y) if h > 8 else y" in text
    file.write_text(text.replace("y + self.same(y) if", "y - self.same(y) if"))
    with pytest.raises(VerificationError, match="for inputs of shape"):
        prunecore.verify(file, model)


def shapes_in_training(net: Any, x: Tensor) -> Tensor:
    y = net.first(x)
    if net.training and x.shape[2] > 8:
        y = net.same(y.relu().reshape(y.shape)) + y
    return net.last(y)


def differs_before_it_asks(net: Any, x: Tensor) -> Tensor:
    y = net.first(x)
    if net.training:
        y = (x.mean() - y.sigmoid()) * 0.5
    else:
        _, _ = y.tanh().chunk(2, 1)
    y = net.same(torch.cat([y[:, 1:], y[:, :1]], 1)) - (y + y.sigmoid())
    return net.last(y if x.shape[2] > 8 else y.relu())


def asks_of_what_else_is_dead(net: Any, x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    y = x.flatten(2).reshape(b, c, h, w)
    z = net.first(net.last(net.first(x))[:, :3])
    if x.shape[2] > 8:
        y = z[:, :3]
    return net.last(net.first(y) + z)


def asks_again_in_training(net: Any, x: Tensor) -> Tensor:
    if not net.training:
        _, _, _, _ = x.shape
    x = net.first(x)
    if x.shape[2] > 8:
        x = torch.tanh(x)
    if x.shape[3] <= 8 and net.training:
        x = net.same(x) * 2
    return net.last(x)


def changes_in_training(net: Any, x: Tensor) -> Tensor:
    y = net.first(x)
    if x.shape[2] > 8 and net.training:
        y.mul_(torch.sigmoid(net.same(y)) * 0.5)
    return net.last(y)


@pytest.mark.parametrize(
    "function",
    [
        changes_in_training,
        shapes_in_training,
        differs_before_it_asks,
        asks_again_in_training,
        asks_of_what_else_is_dead,
    ],
)
def test_training_that_differs_beside_a_branch_on_sizes(function: Any) -> None:
    small = prunecore.prune(Net(function), torch.randn(2, 3, 8, 8), 40)
    assert "_assert" not in small.source


class Padded(nn.Module):
    """Pads to multiples of four, adds positions of eight by eight places, and cuts again."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.last = nn.Conv2d(16, 4, 1)
        self.positions = nn.Parameter(torch.randn(1, 16, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        if h % 4 != 0:
            x = F.pad(x, (0, 0, 0, 4 - h % 4))
        if w % 4 != 0:
            x = F.pad(x, (0, 4 - w % 4))
        x = self.first(x)
        positions = self.positions
        if x.shape[2] != positions.shape[2] or x.shape[3] != positions.shape[3]:
            positions = F.interpolate(positions, size=x.shape[2:], mode="bilinear")
        x = self.last(x + positions)
        return x[:, :, :h, :w] if x.shape[2] > h or x.shape[3] > w else x


def test_ways_that_no_input_of_the_example_size_can_go() -> None:
    small = prunecore.prune(Padded(), torch.randn(2, 3, 8, 8), 40)
    for size in itertools.product((4, 6, 7, 8, 9, 12), repeat=2):
        assert small.model(torch.randn(1, 3, *size)).shape == (1, 4, *size)


class Up(nn.Module):
    """Doubles an image, and pads it to the size of a larger one."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(16, 16, 2, 2)
        self.out = nn.Conv2d(32, 16, 3, padding=1)

    def forward(self, x: Tensor, large: Tensor) -> Tensor:
        x = self.up(x)
        rows, columns = large.shape[2] - x.shape[2], large.shape[3] - x.shape[3]
        if rows != 0 or columns != 0:
            x = F.pad(x, (0, columns, 0, rows))
        return self.out(torch.cat([large, x], 1)).relu()


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.up = Up()
        self.last = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        return self.last(self.up(F.max_pool2d(x, 2), x))


@pytest.mark.parametrize("size", [8, 9])
def test_an_example_of_odd_size(size: int) -> None:
    small = prunecore.prune(UNet(), torch.randn(2, 3, size, size), 40)
    assert "if rows != 0 or columns != 0:" in small.source
    for others in itertools.product((8, 9, 11), repeat=2):
        assert small.model(torch.randn(1, 3, *others)).shape == (1, 4, *others)


class Resized(nn.Module):
    """Sends small images through layers; larger ones are returned as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.last = nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x if x.shape[2] > 8 else self.last(self.first(x).relu())


@pytest.mark.parametrize("size", [8, 12])
def test_an_input_that_is_returned_at_one_size(size: int) -> None:
    small = prunecore.prune(Resized(), torch.randn(2, 3, 8, 8), 40)
    assert "_assert" not in small.source
    assert "self.first" in small.source
    assert small.model(torch.randn(2, 3, size, size)).shape == (2, 3, size, size)


class Attention(nn.Module):
    """Asks for a mask of the future where there is more than one token."""

    def __init__(self, has_mask: bool) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 4)
        self.has_mask = has_mask

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).view(x.shape[0], x.shape[1], 3, 2, 4).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        mask = x.new_zeros(x.shape[1], x.shape[1]) if self.has_mask else None
        is_causal = q.shape[2] > 1 and mask is None
        y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal)
        return self.out(y.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("has_mask", [True, False])
def test_attention_takes_a_single_token(has_mask: bool) -> None:
    small = prunecore.prune(Attention(has_mask), torch.randn(2, 5, 8), 40)
    assert small.model(torch.randn(3, 1, 8)).shape == (3, 1, 4)
    assert small.source.count("scaled_dot_product_attention") == (1 if has_mask else 2)


def test_a_branch_stands_once_behind_another_one() -> None:
    small = prunecore.prune(Net(asks_twice), torch.randn(2, 3, 8, 8), 40)
    assert small.source.count("if ") == 3  # one of them is the factory's
    assert "if is_odd != 0 else self.same(" in small.source


def test_several_conditions_are_one() -> None:
    for function, text in (
        (pads, "if h % 4 != 0 or w % 4 != 0:\n            x = F.pad("),
        (small_and_flat, "if x.shape[2] > 4 and x.shape[3] > 4:\n            y = self.down(y)"),
    ):
        small = prunecore.prune(Net(function).eval(), torch.randn(2, 3, 8, 8), 40)
        assert text in small.source
        assert "else" not in small.source


def test_what_goes_wrong_at_another_size_is_found(tmp_path: Path) -> None:
    model = Net(fits).eval()
    file, *_ = prunecore.prune(model, torch.randn(2, 3, 8, 8), 40).save(tmp_path / "net.py")
    assert prunecore.verify(file, model)
    text = file.read_text()
    assert "F.interpolate(z, size=y.shape[2:])" in text
    file.write_text(text.replace("(z, size=y.shape[2:])", "(z, size=y.shape[2:]) + 1"))
    with pytest.raises(VerificationError, match=r"for inputs of shape \(1, 3, 9, 9\); at most"):
        prunecore.verify(file, model)


def refuses(net: Any, x: Tensor) -> Tensor:
    if x.shape[2] > 100:
        raise ValueError("it is too large")
    return net.last(net.first(x))


def test_what_the_original_refuses_is_still_refused() -> None:
    small = prunecore.prune(Net(refuses).eval(), torch.randn(2, 3, 8, 8), 40)
    small.model(torch.randn(1, 3, 99, 2))
    with pytest.raises(AssertionError, match="written for inputs of another size"):
        small.model(torch.randn(1, 3, 101, 2))


class Window(nn.Module):
    """Attention's way with windows: pads to whole ones, and cuts what it has padded."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        rows, columns = (-h) % 4, (-w) % 4
        padded = rows > 0 or columns > 0
        if padded:
            x = F.pad(x, (0, 0, 0, columns, 0, rows))
        tall, wide = h + rows, w + columns
        x = x.view(b, tall // 4, 4, wide // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        x = x + self.mix(x.mean(1, keepdim=True))
        x = x.view(b, tall // 4, wide // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(b, tall, wide, c)
        return x[:, :h, :w] if padded else x


class Windows(nn.Module):
    """One module of windows, called at two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.window = Window()
        self.last = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).permute(0, 2, 3, 1)
        x = self.window(x)
        x = self.window(x[:, 1:])
        return self.last(x)


def test_a_module_that_is_called_at_two_sizes() -> None:
    torch.manual_seed(0)
    model = Windows().eval()
    small = prunecore.prune(model, torch.randn(2, 3, 8, 8), 40)
    assert small.report["left_whole"] == []
    for size in SIZES:
        x = torch.randn(1, 3, *size)
        assert small.model(x).shape == model(x).shape


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.shape[1] > 1:
            x = x * torch.empty_like(x).bernoulli_(0.5)
        return x


class NoisyTwice(nn.Module):
    """A module that goes another way in training, called twice, beside one of two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
        self.noisy, self.window = Noisy(), Window()
        self.last = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.noisy(self.first(x))
        x = self.noisy(self.second(x)).permute(0, 2, 3, 1)
        return self.last(self.window(self.window(x)[:, 1:]))


def test_a_module_that_is_called_twice_and_differs_in_training() -> None:
    small = prunecore.prune(NoisyTwice().eval(), torch.randn(2, 3, 8, 8), 40)
    assert small.report["left_whole"] == []
    for training in (False, True):
        small.model.train(training)(torch.randn(2, 3, 7, 5))
