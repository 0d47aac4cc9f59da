"""Every rule for a function: what it leaves free, couples or leaves whole, and that it is exact."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunecore.errors import UnsupportedError
from prunecore.plugins.builtin import prunecore_functions

WIDTH = 6
SIZE = 4  # of the maps


def after(x: Tensor) -> nn.Module:
    """A layer that takes a tensor whose channels lie along axis 1, or else last."""
    channels_last = x.ndim != 4 or x.shape[1] == SIZE
    return nn.Linear(x.shape[-1], 4) if channels_last else nn.Conv2d(x.shape[1], 4, 1)


class One(nn.Module):
    """A function between two layers."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.function = function
        with torch.no_grad():
            x = function(torch.rand(2, WIDTH, SIZE, SIZE))
        self.after = after(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.function(self.before(x)))


class Two(nn.Module):
    """A function of what two layers return, before a third."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.right = nn.Conv2d(3, WIDTH, 1)
        self.function = function
        with torch.no_grad():
            x = function(torch.rand(2, WIDTH, SIZE, SIZE), torch.rand(2, WIDTH, SIZE, SIZE))
        self.after = after(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.function(self.left(x), self.right(x)))


def unpooled(x: Tensor, places: Tensor) -> Tensor:
    return F.max_unpool2d(input=x, indices=places, kernel_size=2)


def made_by(cut: Any, layer: str) -> list[int]:
    """The channels that a layer makes."""
    return cut.dependencies.axes[cut.dependencies.layers[layer]].tolist()


def is_free(cut: Any, layer: str) -> bool:
    """True if each of a layer's channels may go by itself."""
    channels = made_by(cut, layer)
    return len(set(channels)) == len(channels) and bool(cut.dependencies.removable[channels].all())


# A function of one tensor, and the line that is written for the whole net: `None` where the line
# is not the point. All of the channels can go one by one.
FREE: list[tuple[Callable[..., Any], str | None]] = [
    # place by place
    (F.relu, "x = F.relu(self.before(x))"),
    (torch.relu, "x = torch.relu(self.before(x))"),
    (lambda x: x.relu(), "x = self.before(x).relu()"),
    (lambda x: F.relu(x, inplace=True), "x = F.relu(self.before(x), inplace=True)"),
    (lambda x: F.relu_(x), None),
    (torch.sigmoid, None),
    (lambda x: F.leaky_relu(x, 0.2), "x = F.leaky_relu(self.before(x), negative_slope=0.2)"),
    (F.gelu, "x = F.gelu(self.before(x))"),
    (lambda x: F.hardtanh(x, -2.0, 2.0), None),
    (lambda x: torch.clamp(x, min=-0.5, max=0.5), None),
    (lambda x: x.clamp_(max=0.5), None),
    (lambda x: x + 1, "x = self.before(x) + 1"),
    (lambda x: 1 - x, None),
    (lambda x: 2 * x / 3, None),
    (lambda x: x**2, "x = self.before(x) ** 2"),
    (lambda x: -x, "x = -self.before(x)"),
    (lambda x: torch.exp(-(x**2)), None),
    (lambda x: x * torch.sigmoid(x), None),
    (lambda x: x * (x > 0), None),
    (lambda x: torch.where(x > 0, x, 0.1 * x), None),
    (lambda x: x.masked_fill(x > 0, 0.5), None),
    (lambda x: F.dropout(x, 0.5, training=False), None),
    (lambda x: F.dropout2d(x, training=False), None),
    (lambda x: x.contiguous().clone(), None),
    (lambda x: x.float().double(), None),
    (lambda x: x.to(torch.float64), "x = self.before(x).to(torch.float64)"),
    (lambda x: x.type_as(x), None),
    (torch.abs, None),
    (lambda x: torch.maximum(x, -x), None),
    (lambda x: torch.addcmul(x, x, x, value=0.5), None),
    (lambda x: torch.lerp(x, -x, 0.25), None),
    # the shapes of people's forwards
    (lambda x: torch.flatten(x, 1), "x = torch.flatten(self.before(x), 1)"),
    (lambda x: x.flatten(1), "x = self.before(x).flatten(1)"),
    (lambda x: x.flatten(start_dim=2).flatten(1, 2), None),
    (lambda x: x.view(x.size(0), -1), None),
    (lambda x: x.view(x.shape[0], -1), None),
    (lambda x: x.view(-1, WIDTH * SIZE * SIZE), None),
    (lambda x: x.reshape((-1, WIDTH * SIZE * SIZE)), None),
    (lambda x: torch.reshape(x, (-1, WIDTH * SIZE * SIZE)), None),
    (lambda x: torch.reshape(x, shape=(-1, WIDTH * SIZE * SIZE)), None),
    (lambda x: x.view(x.size(0), WIDTH, -1).flatten(1), None),
    (lambda x: x.view(x.size(0), x.size(1), -1).flatten(1), None),
    (lambda x: x.view(x.size(0), x.size(1) * x.size(2) * x.size(3)), None),
    (lambda x: x.view(x.size(0), math.prod(x.shape[1:])), None),
    (lambda x: x.view(-1, x.numel() // x.size(0)), None),
    (lambda x: x.flatten(1).unflatten(1, (WIDTH, SIZE, SIZE)), None),
    (lambda x: x.flatten(1).unflatten(-1, (WIDTH, -1, SIZE)), None),
    (lambda x: torch.unflatten(x.flatten(1), 1, (WIDTH, SIZE, SIZE)), None),
    (lambda x: x.flatten(1).unflatten(dim=1, sizes=(WIDTH, SIZE, SIZE)), None),
    (lambda x: x.flatten(1).unflatten(1, x.shape[1:]), None),
    (lambda x: torch.reshape(input=x, shape=(-1, WIDTH * SIZE * SIZE)), None),
    # axes change places
    (lambda x: x.permute(0, 2, 3, 1), "x = self.before(x).permute(0, 2, 3, 1)"),
    (lambda x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2), None),
    (lambda x: torch.permute(x, (0, 3, 1, 2)).transpose(1, 2).transpose(2, 3), None),
    (lambda x: x.flatten(2).transpose(1, 2), None),
    (lambda x: x.flatten(2).swapaxes(1, 2), None),
    (lambda x: torch.movedim(x.flatten(2), 1, 2), None),
    (lambda x: x.flatten(2).mT, None),
    (lambda x: x.mean((2, 3)).t().t(), None),
    (lambda x: x.mean((2, 3)).T.T, None),
    (lambda x: x.mean((2, 3))[:, :, None, None], None),
    (lambda x: x.unsqueeze(1).squeeze(1), None),
    (lambda x: torch.unsqueeze(x, -1).squeeze(-1), None),
    (lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(), None),
    (lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1), None),
    (lambda x: F.adaptive_avg_pool2d(x, 1).squeeze((2, 3)), None),
    # reductions over places
    (lambda x: x.mean([2, 3]), "x = self.before(x).mean([2, 3])"),
    (lambda x: x.mean((-2, -1)), None),
    (lambda x: torch.mean(x, dim=[2, 3]), None),
    (lambda x: x.mean(3).mean(2), None),
    (lambda x: x.mean((2, 3), keepdim=True), None),
    (lambda x: x.sum([2, 3]), None),
    (lambda x: x.amax((2, 3)), None),
    (lambda x: torch.amin(x, (2, 3)), None),
    (lambda x: x.max(3)[0].max(2).values, None),
    (lambda x: torch.max(x, 3)[0].mean(-1), None),
    (lambda x: x.std((2, 3)), None),
    (lambda x: torch.var(x, dim=(2, 3)), None),
    (lambda x: x.logsumexp((2, 3)), None),
    (lambda x: x.flatten(2).softmax(2).flatten(1), None),
    (lambda x: F.softmax(x, dim=3), None),
    (lambda x: x.cumsum(2), None),
    (lambda x: x.norm(dim=(2, 3)), None),
    (lambda x: torch.linalg.vector_norm(x, dim=(2, 3)),
     "x = torch.linalg.vector_norm(self.before(x), dim=(2, 3))"),
    (lambda x: torch.norm(x, 2, (2, 3), True), None),
    (lambda x: x.flatten(2).sort(2)[0].flatten(1), None),
    (lambda x: torch.topk(x.flatten(2), 3)[0].flatten(1), None),
    (lambda x: torch.var_mean(x, (2, 3))[1], None),
    (lambda x: x.flatten(2).argmax(2).to(x.dtype), None),
    (lambda x: F.normalize(x), "x = F.normalize(self.before(x))"),
    (lambda x: F.normalize(x, p=1.0, dim=1, eps=1e-6), None),
    (lambda x: F.normalize(x.flatten(2), dim=2).flatten(1), None),
    # over the channels that are kept
    (lambda x: x.mean(1, keepdim=True), "x = self.before(x).mean(1, keepdim=True)"),
    (lambda x: x - x.mean(), None),
    (lambda x: torch.sum(x, 1, keepdim=True), None),
    (lambda x: x.max(1)[0].unsqueeze(1), None),
    (lambda x: x + x.max(dim=1, keepdim=True).values, None),
    (lambda x: x - x.amax(dim=(1, 2, 3), keepdim=True), None),
    (lambda x: x / x.norm(dim=1, keepdim=True), None),
    (lambda x: x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True), None),
    (lambda x: (x - x.mean(1, True)) * torch.rsqrt(x.var(1, keepdim=True, unbiased=False)), None),
    (lambda x: (x - torch.var_mean(x, 1, keepdim=True)[1]) / x.std(axis=1, keepdim=True), None),
    (lambda x: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6), None),
    (lambda x: x * torch.logsumexp(x, 1, keepdim=True), None),
    (lambda x: x.mean((2, 3)).mean(1)[:, None, None, None] * x, None),
    # a number of channels in a mean is that of the kept ones, any other stays what it was
    (lambda x: x * torch.rsqrt((x * x).sum(1, keepdim=True) / x.shape[1]),
     "x = self.before(x)\nx = x * torch.rsqrt((x * x).sum(1, keepdim=True) / x.shape[1])"),
    (lambda x: F.normalize(x, dim=1) * x.size(1) ** 0.5,
     "x = self.before(x)\nx = F.normalize(x) * x.size(1) ** 0.5"),
    (lambda x: x / (x.norm(dim=1, keepdim=True) * x.size(1) ** -0.5), None),
    (lambda x: x * x.size(1) ** -0.5, "x = self.before(x) * 6**-0.5"),
    (lambda x: x / math.sqrt(x.shape[1]), "x = self.before(x) / math.sqrt(6)"),
    (lambda x: x + x.size(1) // 2, "x = self.before(x) + 3"),
    # other shapes, other tensors
    (lambda x: x.flatten(1).view_as(x), None),
    (lambda x: x.mean((2, 3), keepdim=True).expand(-1, -1, 3, 3), None),
    (lambda x: x.mean((2, 3), keepdim=True).expand(-1, WIDTH, 3, 3),
     None),
    (lambda x: x.mean((2, 3), keepdim=True).expand_as(x) + x, None),
    (lambda x: x.mean((2, 3), keepdim=True).expand(x.shape) + x, None),
    (lambda x: torch.cat([x, torch.zeros_like(x)], 1), None),
    (lambda x: torch.cat([x, torch.ones_like(x[:, : x.size(1) // 2])], 1), None),
    (lambda x: F.pixel_unshuffle(x, 2), None),
    (lambda x: F.unfold(x, 2, stride=2).view(x.size(0), -1, 2, 2), None),
    (lambda x: F.unfold(x, 3, padding=1).mean(2), None),
    (lambda x: x.unfold(2, 2, 2).flatten(3), "x = self.before(x).unfold(2, 2, 2).flatten(3)"),
    (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], None),
    (lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2), None),
    (lambda x: unpooled(*F.max_pool2d(x, 2, return_indices=True)), None),
    (lambda x: torch.rot90(x, 1, (2, 3)), "x = torch.rot90(self.before(x), 1, (2, 3))"),
    (lambda x: torch.rot90(x, 2, (1, 2)), None),
    (lambda x: torch.hstack([x, x]), "x = self.before(x)\nx = torch.hstack([x, x])"),
    (lambda x: torch.vstack([x, x]), None),
    (lambda x: torch.dstack([x, x]), None),
    (lambda x: torch.cat([x, torch.zeros(x.size(0), 2, SIZE, SIZE, dtype=x.dtype)], 1), None),
    # pooling and resizing
    (lambda x: F.max_pool2d(x, 2), "x = F.max_pool2d(self.before(x), 2)"),
    (lambda x: F.max_pool2d(x, 3, stride=2, padding=1, ceil_mode=True), None),
    (lambda x: F.avg_pool2d(x, 2), None),
    (lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), None),
    (lambda x: F.adaptive_avg_pool2d(x, (1, 1)), None),
    (lambda x: F.adaptive_max_pool2d(x, 2), None),
    (lambda x: F.lp_pool2d(x, 2, 2), None),
    (lambda x: F.avg_pool1d(x.flatten(2), 2).flatten(1), None),
    (lambda x: F.max_pool1d(x.flatten(2), 2).flatten(1), None),
    (lambda x: F.adaptive_avg_pool1d(x.flatten(2), 3).flatten(1), None),
    (lambda x: F.avg_pool3d(x.unsqueeze(2), (1, 2, 2)).squeeze(2), None),
    (lambda x: F.interpolate(x, scale_factor=2), None),
    (lambda x: F.interpolate(x, size=(3, 5), mode="bilinear", align_corners=False), None),
    (lambda x: F.interpolate(x, x.shape[2:]), None),
    (lambda x: F.pad(x, (1, 2, 0, 1)), None),
    (lambda x: F.pad(x, [1, 1, 1, 1], "reflect"), None),
    (lambda x: F.pad(x, (1, 1, 0, 0), mode="replicate"), None),
    (lambda x: F.pad(x, (1, 1, 1, 1), value=1.0), None),
    # repeated along axes without channels
    (lambda x: x.mean((2, 3), keepdim=True).expand(-1, -1, 3, 3), None),
    (lambda x: x.mean((2, 3), keepdim=True).expand(x.size(0), WIDTH, SIZE, SIZE), None),
    (lambda x: x.mean((2, 3), keepdim=True).expand([-1, WIDTH, 2, 2]), None),
    (lambda x: x.expand(3, -1, -1, -1, -1).sum(0), None),
    # pieces that cut no channel off
    (lambda x: x[:, :, ::2, ::2], "x = self.before(x)[:, :, ::2, ::2]"),
    (lambda x: x[..., 0].flatten(1), None),
    (lambda x: x[:, :, 0, 0], None),
    (lambda x: x[:, :, -1].flatten(1), None),
    (lambda x: x[..., 1:-1], None),
    (lambda x: x[:, None].squeeze(1), None),
    (lambda x: torch.cat([x, x], 3), None),
    (lambda x: torch.cat([x, x]), None),
    (lambda x: torch.stack([x, x], -1).mean(-1), None),
]  # fmt: skip


def names(cases: list[Any]) -> list[str]:
    """Test ids by number, as the lambdas have no names."""
    return [f"{number:03d}" for number in range(len(cases))]


@pytest.mark.parametrize(("function", "line"), FREE, ids=names(FREE))
def test_channels_go_one_by_one(
    cut: Callable[..., Any], function: Callable[..., Any], line: str | None
) -> None:
    result = cut(One(function), 3, SIZE, SIZE)
    assert is_free(result, "before")
    assert 0 < result.small.before.out_channels < WIDTH
    if line is not None:
        assert result.forward == f"{line}\nreturn self.after(x)"


# Functions that see channels next to each other, or count them: the layer before is left whole.
WHOLE: list[tuple[Callable[..., Any], str]] = [
    (lambda x: F.softmax(x, 1), "softmax mixes it"),
    (lambda x: x.softmax(dim=-3), "softmax mixes it"),
    (lambda x: F.log_softmax(x.mean((2, 3)), dim=1), "log_softmax mixes it"),
    (lambda x: torch.cumsum(x, 1), "cumsum mixes it"),
    (lambda x: torch.sort(x, 1)[0], "sort mixes it"),
    (lambda x: x.topk(3, dim=1).values, "topk mixes it"),
    (lambda x: x.argmax(1, keepdim=True) * 0.1 + x, "argmax mixes it"),
    (lambda x: x.max(1)[1].unsqueeze(1) + x, "max mixes it"),
    (lambda x: x + x.min(dim=1, keepdim=True).indices, "min mixes it"),
    (lambda x: F.max_pool2d(x.permute(0, 2, 3, 1), 2), "max_pool2d mixes it"),
    (lambda x: F.avg_pool1d(x.mean((2, 3)).unsqueeze(1), 2).squeeze(1), "avg_pool1d mixes it"),
    (lambda x: F.pad(x, (0, 0, 0, 0, -1, 0)), "pad mixes it"),
    (lambda x: x.mean((2, 3)).unsqueeze(2) + x.mean((2, 3)).unsqueeze(1),
     "it meets channels that lie along another axis"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "reason"), WHOLE, ids=names(WHOLE))
def test_channels_that_are_mixed_are_left_whole(
    cut: Callable[..., Any], function: Callable[..., Any], reason: str
) -> None:
    result = cut(One(function), 3, SIZE, SIZE)
    assert not result.dependencies.removable[made_by(result, "before")].any()
    assert result.dependencies.left_whole == {"before": reason}


# Functions that make channels one with others of the same layer: how many can go.
COUPLING: list[tuple[Callable[..., Any], list[int]]] = [
    (lambda x: x.view(-1, 2, 3, SIZE, SIZE).transpose(1, 2).tanh().transpose(1, 2).flatten(1, 2),
     [0, 1, 2, 0, 1, 2]),
    (lambda x: torch.cat([x, x[:, :3]], 1).unflatten(1, (3, 3)).transpose(1, 2).tanh()
     .flatten(1, 2), [0, 1, 2, 0, 1, 2]),
    (lambda x: x.view(-1, 2, 3, SIZE, SIZE).mean(1), [0, 1, 2, 0, 1, 2]),
    (lambda x: x.reshape(x.size(0), 3, -1).mean(2), [0, 0, 1, 1, 2, 2]),
    (lambda x: F.glu(x, 1), [0, 1, 2, 0, 1, 2]),
    (lambda x: F.glu(x, dim=-3), [0, 1, 2, 0, 1, 2]),
    (lambda x: F.pixel_shuffle(torch.cat([x, x], 1), 2), [0, 0, 0, 0, 0, 0]),
    (lambda x: F.pixel_shuffle(x.repeat_interleave(2, 1), 2), [0, 0, 1, 1, 2, 2]),
    (lambda x: x.view(x.size(0), 3, x.size(1) // 3, -1).tanh().flatten(1), [0, 0, 1, 1, 2, 2]),
    (lambda x: x.unflatten(1, (2, x.shape[1] // 2)).tanh().flatten(1, 2), [0, 1, 2, 0, 1, 2]),
    (lambda x: F.fold(x.flatten(2)[..., :8], (4, 4), (2, 1), stride=(2, 1)), [0, 0, 1, 1, 2, 2]),
    (lambda x: x.unflatten(1, (2, 3)).sum(1), [0, 1, 2, 0, 1, 2]),
    (lambda x: x.unflatten(1, (2, -1)).sum(1), [0, 1, 2, 0, 1, 2]),
]  # fmt: skip


@pytest.mark.parametrize(("function", "channels"), COUPLING, ids=names(COUPLING))
def test_a_split_axis_couples_what_must_stay_a_rectangle(
    cut: Callable[..., Any], function: Callable[..., Any], channels: list[int]
) -> None:
    result = cut(One(function), 3, SIZE, SIZE, share=0.6)
    made = np.array(made_by(result, "before"))
    assert (made - made.min()).tolist() == channels
    assert result.dependencies.removable[made].all()


# Functions of two tensors that meet place by place.
MEETING: list[Callable[..., Any]] = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a / (b**2 + 1),
    torch.add,
    lambda a, b: torch.add(a, b, alpha=2),
    lambda a, b: torch.add(a, other=b),
    lambda a, b: a.mul(b),
    lambda a, b: a.add_(b),
    lambda a, b: torch.maximum(a, b),
    lambda a, b: torch.max(a, b),
    lambda a, b: torch.where(a > b, a, b),
    lambda a, b: torch.where(a > 0, a, b),
    lambda a, b: a * torch.sigmoid(b.mean((2, 3), keepdim=True)),
    lambda a, b: a * b.mean((2, 3))[:, :, None, None],
    lambda a, b: a * b.mean((2, 3)).view(-1, WIDTH, 1, 1),
    lambda a, b: a * b.mean((2, 3)).view(b.size(0), b.size(1), 1, 1),
    lambda a, b: torch.stack([a, b]).sum(0),
    lambda a, b: torch.stack((a, b), dim=1).mean(1),
    lambda a, b: torch.cat([a, b], 2),
    lambda a, b: torch.cat((a, b), dim=0),
    lambda a, b: torch.lerp(a, b, 0.3),
    lambda a, b: torch.addcmul(a, a, b),
    lambda a, b: a.type_as(b) + b,
]  # fmt: skip


@pytest.mark.parametrize("function", MEETING, ids=names(MEETING))
def test_tensors_that_meet_share_their_channels(
    cut: Callable[..., Any], function: Callable[..., Any]
) -> None:
    result = cut(Two(function), 3, SIZE, SIZE)
    assert made_by(result, "left") == made_by(result, "right")
    assert is_free(result, "left")


# Functions of two tensors that stay apart.
APART: list[Callable[..., Any]] = [
    lambda a, b: torch.cat([a, b], 1),
    lambda a, b: torch.cat((b, a, b), dim=1),
    lambda a, b: torch.cat([a, b], -3),
    lambda a, b: torch.cat(tensors=[a, b], dim=1),
    lambda a, b: torch.concat([torch.cat([a, b], 1), torch.concatenate([b, a], 1)], 1),
    lambda a, b: torch.cat([a.mean((2, 3)), b.flatten(1)], 1),
    lambda a, b: torch.cat([a, F.relu(b), torch.sigmoid(a)], dim=1),
    lambda a, b: F.pad(torch.cat([a, b], 1), (0, 0, 0, 0, 1, 2)),
    lambda a, b: torch.cat([a.permute(0, 2, 3, 1), b.permute(0, 2, 3, 1)], -1),
]  # fmt: skip


@pytest.mark.parametrize("function", APART, ids=names(APART))
def test_tensors_that_are_concatenated_keep_their_own_channels(
    cut: Callable[..., Any], function: Callable[..., Any]
) -> None:
    result = cut(Two(function), 3, SIZE, SIZE)
    assert not set(made_by(result, "left")) & set(made_by(result, "right"))
    assert is_free(result, "left")
    assert is_free(result, "right")


def test_a_sum_of_concatenations_couples_place_by_place(cut: Callable[..., Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(3, 2, 1)
            self.b = nn.Conv2d(3, 4, 1)
            self.c = nn.Conv2d(3, 5, 1)
            self.d = nn.Conv2d(3, 1, 1)
            self.after = nn.Conv2d(6, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            ab = torch.cat([self.a(x), self.b(x)], 1)
            return self.after(ab + torch.cat([self.c(x), self.d(x)], 1))

    result = cut(Net(), 3, SIZE, SIZE)
    assert made_by(result, "a") == [0, 1]
    assert made_by(result, "b") == [2, 3, 4, 5]
    assert made_by(result, "c") == [0, 1, 2, 3, 4]
    assert made_by(result, "d") == [5]


@pytest.mark.parametrize("side", [(1, 2), (0, 3), (3, 0)])
def test_padding_the_channels_couples_nothing_with_what_is_added(
    cut: Callable[..., Any], side: tuple[int, int]
) -> None:
    class Net(nn.Module):
        """A shortcut of option A: strided, and padded with channels of zeros."""

        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 4, 3, padding=1)
            self.second = nn.Conv2d(4, 7, 3, stride=2, padding=1)
            self.after = nn.Conv2d(7, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.first(x))
            shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, *side))
            return self.after(F.relu(self.second(x) + shortcut))

    for seed in range(3):
        result = cut(Net(), 3, SIZE, SIZE, seed=seed)
        first, second = made_by(result, "first"), made_by(result, "second")
        assert second[side[0] : 7 - side[1]] == first
        assert is_free(result, "second")


@pytest.mark.parametrize("mode", ["pad", "mode", "value"])
def test_the_padding_of_channels_may_be_given_by_name(cut: Callable[..., Any], mode: str) -> None:
    calls = {
        "pad": lambda x: F.pad(x, pad=[0, 0, 0, 0, 2, 1]),
        "mode": lambda x: F.pad(x, (0, 0, 0, 0, 2, 1), mode="constant"),
        "value": lambda x: F.pad(x, (1, 1, 0, 0, 0, 2), "constant", 0.7),
    }
    result = cut(One(calls[mode]), 3, SIZE, SIZE)
    assert is_free(result, "before")


def test_a_shortcut_padded_by_a_quarter_of_the_written_width(cut: Callable[..., Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 4, 1)
            self.second = nn.Conv2d(4, 8, 1)
            self.after = nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            width = self.second.out_channels
            shortcut = F.pad(x, (0, 0, 0, 0, width // 4, width // 4), "constant", 0)
            return self.after(self.second(x) + shortcut)

    result = cut(Net(), 3, SIZE, SIZE)
    assert made_by(result, "second")[2:6] == made_by(result, "first")


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: torch.cdist(x, x), "cdist"),
        (lambda x: F.fractional_max_pool2d(x, 2, 2), "fractional_max_pool2d"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_function_without_a_rule_is_refused_by_name(
    find: Callable[..., Any], function: Callable[..., Any], name: str
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        find(One(function), (2, 3, SIZE, SIZE))
    what, remedy = str(caught.value).split("\n")
    assert what.startswith(
        f"Cannot prune through the network (One): its forward calls {name}, and there is no rule "
        f"for what that does to channels ({__file__}:"
    )
    assert remedy == (
        "Write the call in terms of known functions, or give a rule for it in a plugin (hook "
        "prunecore_functions)."
    )


def test_an_attribute_that_is_not_known_is_refused(find: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedError, match=r"its forward reads \.real of a tensor"):
        find(One(lambda x: x.real), (2, 3, SIZE, SIZE))


@pytest.mark.parametrize(
    "rows",
    [
        lambda a, b: torch.cat(
            [a.mean((2, 3))[:, :, None], b.flatten(2).transpose(1, 2)[:, :6]], 2
        ),
        lambda a, b: a.mean((2, 3))[:, None] + b.mean((2, 3))[:, :, None],
    ],
    ids=["cat", "sum"],
)
def test_channels_that_meet_crosswise_are_left_whole(
    cut: Callable[..., Any], rows: Callable[..., Any]
) -> None:
    result = cut(Two(rows), 3, SIZE, SIZE)
    assert not result.dependencies.removable[made_by(result, "left")].any()
    assert not result.dependencies.removable[made_by(result, "right")].any()
    assert set(result.dependencies.left_whole) == {"left", "right"}


def test_channels_that_meet_what_always_stays_are_left_whole(cut: Callable[..., Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Conv2d(3, 3, 1)
            self.after = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.after(self.before(x) + x)

    result = cut(Net(), 3, SIZE, SIZE)
    assert result.dependencies.left_whole == {
        "before": "it meets a tensor of which everything stays, such as the network's input"
    }


def test_an_outer_sum_of_columns_and_rows_leaves_both_whole(cut: Callable[..., Any]) -> None:
    class Net(nn.Module):
        """Channels broadcast over positions that always stay pass them."""

        def __init__(self) -> None:
            super().__init__()
            self.before = nn.Conv2d(3, 6, 1)
            self.gate = nn.Conv2d(3, 1, 1)
            self.after = nn.Conv2d(6, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.after(self.before(x) * torch.sigmoid(self.gate(x)))

    result = cut(Net(), 3, SIZE, SIZE)
    assert is_free(result, "before")


def test_every_function_of_torch_that_is_pointwise_has_its_forms() -> None:
    rules = prunecore_functions()
    assert {torch.relu, F.relu, Tensor.relu, Tensor.relu_, torch.relu_, F.relu_} <= rules.keys()
    assert {torch.flatten, Tensor.flatten, torch.cat, Tensor.view} <= rules.keys()
    assert len(rules) > 300
