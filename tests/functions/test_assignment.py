"""Assignment to places of a tensor: it is written as it stands, at the places that are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

WIDTH, SIZE = 8, 4

Setting = Callable[["Between", Tensor], Tensor]


class Between(nn.Module):
    """A function between two layers, with others and stored tensors at hand."""

    def __init__(self, function: Setting) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.other = nn.Conv2d(WIDTH, WIDTH, 1)
        self.less = nn.Conv2d(WIDTH, WIDTH // 2, 1)
        self.one = nn.Conv2d(WIDTH, 1, 1)
        self.token = nn.Parameter(torch.rand(WIDTH))
        self.register_buffer("index", torch.tensor([6, 1, 3, 2]))
        self.register_buffer("grid", torch.tensor([[0, 1], [3, 2]]))
        self.register_buffer("state", torch.zeros(1, WIDTH, SIZE, SIZE))
        self.function = function
        self.after = nn.Conv2d(WIDTH, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.function(self, self.before(x)))


def _set(index: Any, value: Any) -> Setting:
    """Sets places of a copy, which is returned."""

    def function(net: Between, x: Tensor) -> Tensor:
        y = torch.tanh(x)
        y[index] = value(net, x) if callable(value) else value
        return y

    return function


def _lag(_net: Between, x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y[:, :, 1:] = x[:, :, :-1]
    return y


def _half_and_half(net: Between, x: Tensor) -> Tensor:
    y = torch.empty_like(x)
    y[:, : WIDTH // 2] = net.less(x)
    y[:, WIDTH // 2 :] = net.less(x).sigmoid()
    return y


def _to_sizes(_net: Between, x: Tensor) -> Tensor:
    y = torch.tanh(x)
    y[:, :, x.size(2) // 2 :, : x.size(3) - 1] = x[:, :, x.size(2) // 2 :, 1:]
    return y


def _by_mask(_net: Between, x: Tensor) -> Tensor:
    y = x.sigmoid()
    y[y < 0.5] = 0
    return y


def _by_mask_of_maps(net: Between, x: Tensor) -> Tensor:
    y = x.permute(0, 2, 3, 1).contiguous()
    y[net.one(x).squeeze(1) > 0] = net.token
    return y.permute(0, 3, 1, 2)


def _by_mask_after_slices(net: Between, x: Tensor) -> Tensor:
    y = x.sigmoid()
    y[:, :, net.one(x)[0, 0] > 0] = 0.5
    return y


def _by_computed_places(net: Between, x: Tensor) -> Tensor:
    y = x.sigmoid()
    y[:, :, net.one(x).mean((0, 1, 3)).argmax()] = 0.5
    return y


def _augmented(_net: Between, x: Tensor) -> Tensor:
    y = x.sigmoid()
    y[:, 2:6] += 1
    y[..., 0:2] *= x[..., 2:4]
    return y


def _with_an_alias(_net: Between, x: Tensor) -> Tensor:
    y = x
    y[:, :, 0] = 0
    return x + y


def _before_it_is_set(_net: Between, x: Tensor) -> Tensor:
    y = x * 2
    x[:, :, 0] = 1
    return y + x


def _through_a_view(_net: Between, x: Tensor) -> Tensor:
    y = x.flatten(2)
    y[:, :, 3:9] = 0
    return x * torch.sigmoid(x)


def _through_a_part(_net: Between, x: Tensor) -> Tensor:
    left, right = x.chunk(2, 1)
    left[:, :, 1:] = right[:, :, 1:]
    return x


def _put(net: Between, x: Tensor) -> Tensor:
    y = x.permute(0, 2, 3, 1)
    return y.index_put((net.one(x).squeeze(1) > 0,), net.token).permute(0, 3, 1, 2)


def _scattered(net: Between, x: Tensor) -> Tensor:
    order = torch.argsort(net.one(x), 3).expand_as(x)
    return torch.zeros_like(x).scatter(3, order, net.other(x))


def _put_back(net: Between, x: Tensor) -> Tensor:
    y = torch.zeros_like(x)
    y.index_copy_(3, net.index[1:], x[..., 1:])
    y.index_add_(2, net.index[1:], net.other(x)[:, :, 1:])
    return y.index_fill(2, net.index[2:3], 0.5)


def _into_what_is_made(_net: Between, x: Tensor) -> Tensor:
    rows = torch.zeros(SIZE, SIZE)
    before, second = rows + 1, rows[1]
    second[:2] = x.mean((0, 1, 2))[:2]
    rows[3] = 1.0
    rows.add_(1)
    return x * before + rows.T * rows.shape[0] + rows[2, 3]


FREE: dict[str, Setting] = {
    "what_is_made": _into_what_is_made,
    "index_put": _put,
    "scatter": _scattered,
    "index_copy": _put_back,
    "maps": _set((..., slice(0, 2)), 0),
    "maps_of_others": _set((slice(None), slice(None), 1), lambda net, x: net.other(x)[:, :, 2]),
    "everything": _set(slice(None), lambda net, x: net.other(x)),
    "dots": _set(..., lambda net, x: x),
    "the_batch": _set(0, 1.5),
    "a_slice": _set((slice(None), slice(2, 7)), 0.25),
    "a_slice_by_steps": _set((slice(None), slice(1, None, 2)), 0.25),
    "a_slice_with_maps": _set((slice(None), slice(2, 7), 1), 0.25),
    "a_slice_of_others": _set((slice(None), slice(4)), lambda net, x: net.less(x)),
    "a_list": _set((slice(None), [5, 0, 2, 3]), lambda net, x: net.less(x)),
    "a_value_of_few_axes": _set((slice(None), slice(4)), lambda net, x: net.one(x)[0]),
    "a_value_of_more_axes": _set((0, slice(4)), lambda net, x: net.less(x[:1])),
    "stored_places": lambda net, x: _set((slice(None), net.index), 0)(net, x),
    "stored_grids_of_maps": lambda net, x: _set((..., net.grid, net.grid), 0)(net, x),
    "a_lag": _lag,
    "half_and_half": _half_and_half,
    "sizes": _to_sizes,
    "a_mask": _by_mask,
    "a_mask_of_maps": _by_mask_of_maps,
    "a_mask_after_slices": _by_mask_after_slices,
    "computed_places": _by_computed_places,
    "augmented": _augmented,
    "an_alias": _with_an_alias,
    "what_was_read_before": _before_it_is_set,
    "a_view": _through_a_view,
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", FREE)
def test_channels_stay_free(cut: Callable[..., Any], name: str, seed: int) -> None:
    result = cut(Between(FREE[name]), 3, SIZE, SIZE, seed=seed)
    channels = result.dependencies.axes[result.dependencies.layers["before"]]
    assert result.dependencies.removable[channels].all()
    assert result.dependencies.left_whole == {}


def _state(net: Between, x: Tensor) -> Tensor:
    net.state[:, 2:6] = net.less(x).mean(0, True)
    return x + net.state


def _of_a_weight(net: Between, x: Tensor) -> Tensor:
    weight = net.other.weight.flatten(1).clone()
    weight[2:] = 0
    return torch.einsum("oi,nihw->nohw", weight, x)


def _scattered_over_channels(net: Between, x: Tensor) -> Tensor:
    return x.scatter(1, torch.argsort(net.other(x), 1), net.other(x))


def _scattered_in_part(net: Between, x: Tensor) -> Tensor:
    return x.scatter_add(3, torch.argsort(net.less(x), 3), net.less(x))


HELD: dict[str, Setting] = {
    "scatter_over_channels": _scattered_over_channels,
    "scatter_in_part": _scattered_in_part,
    "index_put_over_channels": lambda net, x: (
        x.transpose(0, 1).index_put((net.index,), net.one(x)[:, 0]).transpose(0, 1)
    ),
    "one": _set((slice(None), 3), 0),
    "the_input_of_a_slice": _set((0, slice(4), 0), lambda net, _: net.token[:4, None]),
    "a_part": _through_a_part,
    "a_mask_of_channels": lambda net, x: _set((slice(None), x[0, :, 0, 0] > 0), 1)(net, x),
    "state": _state,
    "a_weight": _of_a_weight,
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", HELD)
def test_what_cannot_go_stays(cut: Callable[..., Any], name: str, seed: int) -> None:
    cut(Between(HELD[name]), 3, SIZE, SIZE, seed=seed)


def test_assignments_are_written_as_they_stand(
    cut: Callable[..., Any], check_style: Callable[..., None]
) -> None:
    def function(_net: Between, x: Tensor) -> Tensor:
        y = torch.tanh(x)
        y[..., 0:2] += 1
        y[:, :, 1:] *= x[:, :, :-1] - y[:, :, :-1]
        y[..., 0] = y[..., 1] / (y[..., 2] + 3)
        y[..., 3] -= y[..., 0] * 2
        y[..., 1:3] = (y[..., 1:3] * 2) ** 2
        y[..., 2] = y[..., 2] * 2
        return y

    result = cut(Between(function), 3, SIZE, SIZE)
    check_style([result.text])
    assert result.forward.splitlines()[2:-1] == [
        "y[..., 0:2] += 1",
        "y[:, :, 1:] *= x[:, :, :-1] - y[:, :, :-1]",
        "y[..., 0] = y[..., 1] / (y[..., 2] + 3)",
        "y[..., 3] -= y[..., 0] * 2",
        "y[..., 1:3] = (y[..., 1:3] * 2) ** 2",
        "y[..., 2] = y[..., 2] * 2",
    ]
