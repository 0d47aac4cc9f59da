"""What changes the shape of a tensor in place, and loops along the first axis of stored tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunecore import UnsupportedError

from ..conftest import check_outputs, masked


class Net(nn.Module):
    def __init__(self, between: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)
        self.same, self.relu = nn.Identity(), nn.ReLU()
        self.gains = nn.Parameter(torch.rand(3))
        self.rows = nn.Parameter(torch.rand(2, 4))
        self.mixed = Mixed()
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self, self.first(x)))


class Mixed(nn.Module):
    """Goes through what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList([nn.Conv2d(6, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 1)])

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(w * step(x) for w, step in zip(weights, self.steps, strict=True))


def as_a_statement(net: Net, x: Tensor) -> Tensor:
    y = net.relu(x)
    y.unsqueeze_(2)
    y = y * 2
    y.squeeze_(2)
    return y + x


def of_a_part(net: Net, x: Tensor) -> Tensor:
    y = x.flatten(2)
    y.transpose_(1, 2)
    return x + y.mT.unflatten(2, (4, 4))


IN_PLACE = [
    (as_a_statement, "(self.relu(x).unsqueeze(2) * 2).squeeze(2)"),
    (of_a_part, "x.flatten(2).transpose(1, 2)"),
    (lambda _, x: x.unsqueeze_(dim=1).squeeze_(1), ".unsqueeze(dim=1).squeeze(1)"),
    (lambda net, x: net.same(x).transpose_(2, 3), ".transpose(2, 3)"),
    (lambda _, x: x.mean((2, 3)).t_().t_()[..., None, None] + x, ".t().t()"),
]


@pytest.mark.parametrize(("between", "text"), IN_PLACE)
def test_a_shape_that_is_changed_in_place_is_another_tensor_of_it(
    cut: Callable[..., Any], between: Callable[[Any, Tensor], Tensor], text: str
) -> None:
    result = cut(Net(between), 3, 4, 4)
    assert text in result.forward
    assert result.keep.dependencies.removable.any()


class Flat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2)


def changed_copy(net: Net, x: Tensor, copied: Tensor) -> Tensor:
    """Of a batch of one, or a map of one place, what is a copy else is a view."""
    copied *= 0.5
    return x * 2


LAYOUTS = [
    lambda net, x: changed_copy(net, x, x[:, :3].contiguous()),
    lambda net, x: changed_copy(net, x, x.chunk(2, 1)[1].reshape(len(x), 3, -1)),
    lambda net, x: changed_copy(net, x, torch.flatten(x.transpose(2, 3), 2)),
    lambda net, x: changed_copy(net, x, net.flat(x.transpose(2, 3))),
    lambda net, x: changed_copy(net, x, nn.Flatten(2)(x.transpose(2, 3))),
]


@pytest.mark.parametrize("between", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (2, 3, 1, 1)])
def test_a_copy_at_one_size_that_is_a_view_at_another_is_changed_in_place(
    cut: Callable[..., Any], between: Callable[[Any, Tensor], Tensor], shape: tuple[int, ...]
) -> None:
    net = Net(between)
    net.flat = Flat()
    result = cut(net, 3, 4, 4)
    check_outputs(masked(result.model, result.keep), result.small, shape)


def of_what_has_another_name(net: Net, x: Tensor) -> Tensor:
    net.same(x).transpose_(2, 3)
    return x * 2


def of_what_is_stored(net: Net, x: Tensor) -> Tensor:
    return x * net.rows.unsqueeze_(0).mean()


def of_another(net: Net, x: Tensor) -> Tensor:
    return x * net.rows.set_(net.rows + 1).mean()  # type: ignore[call-overload, no-any-return]


def test_what_cannot_be_done_but_in_place_has_a_remedy(find: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedError, match=r"by set_ .*\nGo on with another tensor, or set"):
        find(Net(of_another), (2, 3, 4, 4))


@pytest.mark.parametrize("between", [of_what_has_another_name, of_what_is_stored])
def test_a_shape_that_others_see_change_is_refused(
    find: Callable[..., Any], between: Callable[[Any, Tensor], Tensor]
) -> None:
    with pytest.raises(UnsupportedError, match="changes the shape of a tensor in place"):
        find(Net(between), (2, 3, 4, 4))


def test_the_shape_of_an_input_that_changes_is_refused(find: Callable[..., Any]) -> None:
    class Changing(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x.transpose_(2, 3)))

    with pytest.raises(UnsupportedError, match="changes the shape of a tensor in place"):
        find(Changing(as_a_statement), (2, 3, 4, 4))


def test_a_size_that_is_multiplied_is_another_number(cut: Callable[..., Any]) -> None:
    def of_sizes(net: Net, x: Tensor) -> Tensor:
        kept = net.rows[net.rows > 0.5]  # how many there are is not known
        count = x.shape[2]
        count *= x.shape[3]
        return x * count + kept.sum()

    result = cut(Net(of_sizes), 3, 4, 4, strict=False)
    assert "x.shape[2] * x.shape[3]" in result.forward
    assert "mul_" not in result.forward


def counted(net: Net, x: Tensor) -> Tensor:
    for i in range(len(net.gains)):
        x = x * net.gains[i]
    return x


LOOPS = [
    (lambda net, x: sum(gain * x for gain in net.gains), "self.gains[2] * x"),
    (lambda net, x: [x * gain for gain in net.gains.softmax(0)][1], "self.gains.softmax(0)[1]"),
    (lambda net, x: net.mixed(x, net.gains), "weights[2] * self.steps[2](x)"),
    (lambda net, x: net.mixed(x, net.gains.softmax(0)), "weights[2] * self.steps[2](x)"),
    (counted, "self.gains[2]"),
    (lambda net, x: sum(x * row.view(1, 1, 4, 1) for row in net.rows), "self.rows[1]"),
]


@pytest.mark.parametrize(("between", "text"), LOOPS)
def test_the_first_axis_of_what_is_stored_is_gone_through(
    cut: Callable[..., Any], between: Callable[[Any, Tensor], Tensor], text: str
) -> None:
    result = cut(Net(between), 3, 4, 4)
    assert text in result.text
    assert "_assert" not in result.text
    assert result.keep.dependencies.removable.any()


def test_the_batch_is_not_gone_through(find: Callable[..., Any]) -> None:
    net = Net(lambda net, x: net.mixed(x, x[:, 0, 0, 0]))
    with pytest.raises(UnsupportedError, match="goes through the first axis of a tensor"):
        find(net, (3, 3, 4, 4))


def test_what_nothing_uses_is_no_part_of_a_forward(cut: Callable[..., Any]) -> None:
    def printing(_: Net, x: Tensor) -> Tensor:
        str(x.mean().item())
        torch.softmax(x, 1)
        return x * 2

    result = cut(Net(printing), 3, 4, 4)
    assert result.forward == "x = self.first(x) * 2\nreturn self.last(x)"
    assert result.keep.dependencies.removable.any()
