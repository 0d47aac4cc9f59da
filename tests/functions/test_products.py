"""Products that sum over axes: what goes together, and that it is exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, SIZE = 6, 4


class Two(nn.Module):
    """A function of what two layers return, before a third."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.right = nn.Conv2d(3, WIDTH, 1)
        self.function = function
        maps = torch.rand(2, WIDTH, SIZE, SIZE)
        self.after = nn.Linear(function(maps, maps).shape[-1], 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.function(torch.sigmoid(self.left(x)), self.right(x)))


def flat(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)  # batch, places, channels


# Functions of two tensors whose channels are multiplied and summed over: they go together.
TOGETHER: list[Callable[..., Tensor]] = [
    lambda a, b: flat(a) @ flat(b).transpose(1, 2),
    lambda a, b: torch.matmul(flat(a), b.flatten(2)),
    lambda a, b: flat(a).matmul(other=b.flatten(2)),
    lambda a, b: torch.bmm(flat(a), b.flatten(2)),
    lambda a, b: flat(a).bmm(mat2=b.flatten(2)),
    lambda a, b: torch.einsum("bchw,bcij->bhwij", a, b).flatten(3),
    lambda a, b: torch.einsum("bc..., bc... -> b...", a, b),
    lambda a, b: torch.einsum("...c,...c->...", flat(a), flat(b)),
    lambda a, b: torch.einsum("bchw,bchw->bhw", [a, b]),
]


def numbered(cases: list[Any]) -> list[str]:
    return [f"{number:02d}" for number in range(len(cases))]


def made(result: Any, layer: str) -> list[int]:
    return result.dependencies.axes[result.dependencies.layers[layer]].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("function", TOGETHER, ids=numbered(TOGETHER))
def test_channels_that_are_summed_over_go_together(
    cut: Callable[..., Any], function: Callable[..., Any]
) -> None:
    for seed in range(2):
        result = cut(Two(function), 3, SIZE, SIZE, seed=seed)
        assert made(result, "left") == made(result, "right")
        assert len(set(made(result, "left"))) == WIDTH
        assert result.dependencies.removable[made(result, "left")].all()


# Functions in which the channels of the first tensor lie along an axis that is not summed over.
PASSING: list[Callable[..., Tensor]] = [
    lambda a, b: (a.flatten(2) @ a.new_ones(16, 5)).transpose(1, 2),
    lambda a, b: a.new_ones(5, 16) @ flat(a),
    lambda a, b: torch.baddbmm(flat(a)[:, :5], a.new_ones(a.size(0), 5, 16), flat(a), beta=0.5),
    lambda a, b: torch.einsum("bchw,hw->bc", a, a.new_ones(4, 4)),
    lambda a, b: torch.einsum("bchw,bchw->bhwc", a, a),
    lambda a, b: a.matmul(a.new_ones(4, 3)).permute(0, 2, 3, 1),
    lambda a, b: F.scaled_dot_product_attention(
        a.new_ones(a.size(0), 3, 5), a.new_ones(a.size(0), 16, 5), flat(a)
    ),
]


@pytest.mark.parametrize("function", PASSING, ids=numbered(PASSING))
def test_channels_pass_a_product_along_other_axes(
    cut: Callable[..., Any], function: Callable[..., Tensor]
) -> None:
    result = cut(Two(function), 3, SIZE, SIZE)
    assert len(set(made(result, "left"))) == WIDTH
    assert result.dependencies.removable[made(result, "left")].all()


class Weighted(nn.Module):
    def __init__(self, function: Callable[..., Tensor], *shape: int) -> None:
        super().__init__()
        self.before = nn.Linear(3, WIDTH)
        self.weight = nn.Parameter(torch.rand(shape))
        self.function = function
        self.after = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(torch.relu(self.function(torch.sigmoid(self.before(x)), self.weight)))


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x, w: x @ w, (WIDTH, 8)),
        (lambda x, w: torch.matmul(x, w), (WIDTH, 8)),
        (lambda x, w: torch.einsum("bi,io->bo", x, w), (WIDTH, 8)),
        (lambda x, w: torch.einsum("bi,oi->bo", x, w), (8, WIDTH)),
    ],
)
def test_a_parameter_works_as_a_layer_s_weight(
    cut: Callable[..., Any], function: Any, shape: tuple[int, int]
) -> None:
    result = cut(Weighted(function, *shape), 3)
    inner, outer = (shape.index(WIDTH), shape.index(8))
    assert 0 < result.small.weight.shape[inner] < WIDTH
    assert 0 < result.small.weight.shape[outer] < 8


class Heads(nn.Module):
    """Attention as people write it by hand."""

    def __init__(self, scale: Any = None) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(5, 12) for _ in range(3))
        self.proj = nn.Linear(12, 4)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (layer(x).view(b, n, 3, 4).transpose(1, 2) for layer in (self.q, self.k, self.v))
        x = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.proj(x.transpose(1, 2).reshape(b, n, -1))


def test_heads_of_attention_go_as_a_whole(
    find: Callable[..., Any], cut: Callable[..., Any]
) -> None:
    dependencies = find(Heads(), (2, 7, 5))
    for layer in ("q", "k", "v"):
        channels = dependencies.axes[dependencies.layers[layer]]
        assert channels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
        assert dependencies.removable[channels].all()
    result = cut(Heads(), 7, 5)
    assert result.small.q.out_features in (4, 8)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda a, b: flat(a).transpose(1, 2) @ flat(b), "channels along several axes"),
        (lambda a, b: torch.einsum("bchw,bdhw->bcd", a, b), "channels along several axes"),
        (lambda a, b: torch.einsum("bccw->bcw", a[:, :, :, :].flatten(2)[:, :, :6, None]
         .expand(-1, -1, -1, 4)), "a product takes its diagonal"),
        (lambda a, b: flat(a) @ flat(a).new_ones(6, 3), "everything stays"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_apart_is_left_whole(
    find: Callable[..., Any], function: Any, reason: str
) -> None:
    net = Two(function)
    dependencies = find(net, (2, 3, SIZE, SIZE))
    assert reason in dependencies.left_whole["left"]


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: torch.einsum("bchw,bchi", a, b),
        lambda a, b: torch.einsum("...hw,...hi", a, b),
        lambda a, b: torch.einsum(a, [0, 1, 2, 3], b, [0, 1, 2, 4], [0, 1, 3, 4]),
    ],
)
def test_an_equation_may_leave_out_the_result_or_be_of_numbers(
    cut: Callable[..., Any], function: Any
) -> None:
    cut(Two(function), 3, SIZE, SIZE)
