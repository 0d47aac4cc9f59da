"""Branches on sizes are written both ways, or asserted where the other one raises."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunecore import UnsupportedError
from prunecore.tracing.guards import GUARD

from ..conftest import check_outputs, masked


class Net(nn.Module):
    """A branch between two layers."""

    def __init__(self, branch: Callable[[Tensor, nn.Module], Tensor]) -> None:
        super().__init__()
        self.first, self.inner, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 1), nn.Linear(6, 2)
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.branch(self.first(x), self.inner).mean((2, 3)))


def padded(x: Tensor, _inner: nn.Module) -> Tensor:
    height, width = x.shape[-2:]
    right, down = -width % 4, -height % 4
    return F.pad(x, (0, right, 0, down)) if right or down else x


def square(x: Tensor, _inner: nn.Module) -> Tensor:
    if x.size(2) != x.size(3):
        x = x.flip(2)
    return x


def of_a_layer(x: Tensor, inner: nn.Module) -> Tensor:
    x = inner(x)
    if x.shape[2] > 4:
        x = x * 2
    return x


def refused(x: Tensor, _inner: nn.Module) -> Tensor:
    if x.shape[3] > 4:
        raise ValueError("too wide")
    return x * 2


def of_channels(x: Tensor, _inner: nn.Module) -> Tensor:
    assert x.shape[1] == 6
    return x * 2 if x.shape[1] > 5 else x


def of_rank(x: Tensor, _inner: nn.Module) -> Tensor:
    return x * 2 if x.ndim == 4 else x


@pytest.mark.parametrize(
    ("branch", "shape", "text"),
    [
        (padded, (3, 4, 4), "if right != 0 or down != 0"),
        (padded, (3, 4, 3), "if right != 0 or down != 0"),
        (square, (3, 4, 4), "if x.size(2) != x.size(3)"),
        (of_a_layer, (3, 5, 4), "if x.shape[2] > 4"),
        (of_a_layer, (3, 4, 4), "if x.shape[2] > 4"),
        (of_channels, (3, 4, 4), ""),
        (of_rank, (3, 4, 4), "if x.ndim == 4"),
    ],
)
def test_sizes_decide(
    cut: Callable[..., Any], branch: Any, shape: tuple[int, ...], text: str
) -> None:
    result = cut(Net(branch), *shape)
    assert text in result.forward
    assert result.forward.count("if ") == bool(text)
    assert GUARD not in result.forward
    assert result.keep.dependencies.removable.any()


@pytest.mark.parametrize(
    "branch",
    [
        lambda x, inner: x * 2 if isinstance(x, Tensor) else x[0],
        lambda x, inner: inner(x) if torch.is_tensor(x) else x[0],
        lambda x, inner: x[0] * 2 if isinstance(x, list | tuple) else x,
    ],
)
def test_a_tensor_is_taken_for_one(cut: Callable[..., Any], branch: Any) -> None:
    assert "[0]" not in cut(Net(branch), 3, 4, 4).forward


def test_a_written_network_refuses_what_it_was_not_written_for(cut: Callable[..., Any]) -> None:
    small = cut(Net(refused), 3, 4, 4).small
    with pytest.raises(AssertionError, match=GUARD):
        small(torch.rand(2, 3, 4, 5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("function", "guards"),
    [
        (lambda x, inner: x[:, :, : round(x.size(2) / 3, 0).__int__()], 1),
        (lambda x, inner: x * [0, 1, 2, 3, 4][int(x.ndim)], 1),
        (lambda x, inner: F.avg_pool2d(x, x.size()[3]), 0),
        (lambda x, inner: x / float(x.shape[1]), 0),
        (lambda x, inner: x * int(inner.weight.shape[0]), 0),
    ],
)
def test_a_size_is_a_number_where_python_needs_one(
    cut: Callable[..., Any], function: Any, guards: int
) -> None:
    result = cut(Net(function), 3, 4, 4)
    assert result.keep.dependencies.removable.any()
    assert result.forward.count(GUARD) == guards


@pytest.mark.parametrize(
    "function",
    [
        lambda x, inner: x * range(x.shape[0])[1],
        lambda x, inner: x * int(x.sum()),
        lambda x, inner: x * range(4)[int(x.flatten(1).shape[0])],
    ],
)
def test_the_batch_and_values_are_no_numbers(find: Callable[..., Any], function: Any) -> None:
    with pytest.raises(UnsupportedError, match="it makes a number of the batch, or of what"):
        find(Net(function), (2, 3, 4, 4))


@pytest.mark.parametrize(
    "function",
    [
        lambda x, inner: x.flatten(2).view(x.size(0), -1, *x.shape[2:]),
        lambda x, inner: torch.cat([part.relu() for part in x.chunk(2, 1)], 1),
        lambda x, inner: torch.cat([*map(torch.tanh, torch.chunk(x, chunks=3, dim=1))], 1),
        lambda x, inner: torch.cat([p * 2 for p in x.split([1, 5], dim=1)], 1),
        lambda x, inner: torch.cat([-p for p in torch.tensor_split(x, 4, dim=1)], 1),
        lambda x, inner: x.view(*x.size()) if len(x.shape) == 4 else x,
        lambda x, inner: torch.maximum(*x.chunk(2, 1)).repeat(1, 2, 1, 1),
    ],
)
def test_what_a_call_says_the_number_of_is_gone_through(
    cut: Callable[..., Any], function: Any
) -> None:
    result = cut(Net(function), 3, 4, 4)
    assert result.keep.dependencies.removable.any()
    assert GUARD not in result.forward


def starred(x: Tensor, _inner: nn.Module) -> Tensor:
    n, c, *maps = x.shape
    return x.flatten(2).view(n, c, *maps)


def test_a_shape_is_taken_apart(cut: Callable[..., Any]) -> None:
    cut(Net(starred), 3, 4, 4)


@pytest.mark.parametrize(
    ("branch", "reason"),
    [
        (lambda x, _: x * 2 if x.sum() > 0 else x, "symbolically traced variables cannot be used"),
        (lambda x, _: x * 2 if x.is_cuda else x, "where it runs on 'cuda' it may do something"),
    ],
)
def test_values_and_devices_do_not_decide(
    find: Callable[..., Any], branch: Any, reason: str
) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        find(Net(branch), (2, 3, 4, 4))


def of_the_type(x: Tensor, _inner: nn.Module) -> Tensor:
    if x.dtype == torch.float16:
        x = x.float()
    return x * 2 if x.dtype in (torch.float32, torch.bfloat16) else x * 2.0


def test_a_type_decides_as_it_is_and_the_written_network_may_be_cast(
    cut: Callable[..., Any],
) -> None:
    result = cut(Net(of_the_type), 3, 4, 4)
    assert "dtype" not in result.forward
    assert result.small.bfloat16()(torch.rand(2, 3, 4, 4, dtype=torch.bfloat16)).isfinite().all()


def test_a_number_of_axes_finds_what_stands_for_it(cut: Callable[..., Any]) -> None:
    scales = {2: 3.0, 4: 2.0}
    result = cut(Net(lambda x, inner: x * scales[x.ndim]), 3, 4, 4)
    assert "x.ndim == 4" in result.forward
    assert "* 2.0" in result.forward


def test_a_product_of_sizes_may_begin_with_one(cut: Callable[..., Any]) -> None:
    def flattened(x: Tensor, _inner: nn.Module) -> Tensor:
        n, c, *maps = x.shape
        return x.view(n, c, functools.reduce(operator.mul, maps, 1)).view(n, c, *maps)

    result = cut(Net(flattened), 3, 4, 4)
    assert "h * w" in result.forward
    assert "1 *" not in result.forward


def halved(x: Tensor, _inner: nn.Module) -> Tensor:
    size = x.size(2)
    while size > 2:
        size = size // 2
        x = x * 2
    return x


def test_a_loop_that_sizes_end_goes_round_a_few_times_more(cut: Callable[..., Any]) -> None:
    forward = cut(Net(halved), 3, 4, 4).forward
    assert 2 <= forward.count("// 2") < 8
    assert GUARD in forward


def in_a_branch(x: Tensor, inner: nn.Module) -> Tensor:
    if x.shape[2] > 2:
        y = inner(x)
        if x.shape[2] % 2:
            x = y
    return x


def test_what_only_a_branch_computes_is_computed_there(cut: Callable[..., Any]) -> None:
    """Though it is used where the branch within it is taken alone."""
    result = cut(Net(in_a_branch), 3, 2, 2)
    before, _, after = result.forward.partition("if ")
    assert "self.inner(x)" not in before
    assert "self.inner(x)" in after
    for size in (2, 3, 4):
        check_outputs(masked(result.model, result.keep), result.small, (2, 3, size, size))
