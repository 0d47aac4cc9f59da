"""Tensors that a forward makes of no input are made by the written forward, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import prunecore
from prunecore.errors import UnsupportedError
from prunecore.isolation.random_states import OwnDraws
from prunecore.tracing.stand_ins.factories import MadeTensors

SIZE = 4


class Net(nn.Module):
    """What a function makes of the image, between two layers."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(self.function(x))))


def normalized(x: Tensor) -> Tensor:
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225])[None, :, None, None]
    return (x - mean) / std


def on_its_device(x: Tensor) -> Tensor:
    return x * torch.tensor([1.0, 2.0, 0.5, 4.0], device=x.device)


def of_its_type(x: Tensor) -> Tensor:
    return x * torch.arange(SIZE, device=x.device).to(x.dtype)


def doubled(x: Tensor) -> Tensor:
    return x @ (torch.eye(SIZE).mul(2) + 1)


def used_twice(x: Tensor) -> Tensor:
    ramp = torch.linspace(-1, 1, SIZE)
    return x * ramp + ramp


def of_sizes(x: Tensor) -> Tensor:
    return x + torch.zeros(x.size(0), 1, x.size(2), 1)


def stacked(x: Tensor) -> Tensor:
    ramp = torch.linspace(0, 1, SIZE)
    return x * torch.stack([ramp, ramp.flip(0), ramp, ramp])


@pytest.mark.parametrize(
    ("function", "lines"),
    [
        (
            normalized,
            "x = x - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)\n"
            "std = torch.tensor([0.229, 0.224, 0.225])[None, :, None, None]\n"
            "x = torch.relu(self.first(x / std))",
        ),
        (on_its_device, "x = x * torch.tensor([1.0, 2.0, 0.5, 4.0], device=x.device)"),
        (of_its_type, "torch.arange(4, device=x.device).to(x.dtype)"),
        (
            used_twice,
            "ramp = torch.linspace(-1, 1, 4)\nx = torch.relu(self.first(x * ramp + ramp))",
        ),
        (of_sizes, "x = x + torch.zeros(x.size(0), 1, x.size(2), 1)"),
        (stacked, "torch.stack("),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_tensors_are_made_where_the_forward_makes_them(
    cut: Callable[..., Any],
    check_style: Callable[..., None],
    function: Callable[[Tensor], Tensor],
    lines: str,
) -> None:
    done = cut(Net(function), 3, SIZE, SIZE)
    assert lines in done.forward
    check_style([done.text])


def changed(x: Tensor) -> Tensor:
    scale = torch.ones(SIZE)
    scale[0] = 2.0
    return x * scale


def changed_behind_a_view(x: Tensor) -> Tensor:
    scale = torch.ones(SIZE)
    scale[1:].mul_(3)
    return x * scale


def changed_between(x: Tensor) -> Tensor:
    scale = torch.ones(SIZE)
    x = x * scale
    scale[0] = 2.0
    return x * scale


def of_numpy(x: Tensor) -> Tensor:
    return x * torch.from_numpy(np.arange(SIZE, dtype=np.int32))


STRIDES = torch.tensor([8.0, 16.0])


def of_a_tensor_that_nobody_holds(x: Tensor) -> Tensor:
    for stride in STRIDES:
        x = x / stride
    return x


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (changed, "torch.tensor([2.0, 1.0, 1.0, 1.0])"),
        (changed_behind_a_view, "torch.tensor([1.0, 3.0, 3.0, 3.0])"),
        (changed_between, "x * torch.ones(4) * torch.tensor([2.0, 1.0, 1.0, 1.0])"),
        (of_numpy, "torch.tensor([0, 1, 2, 3], dtype=torch.int32)"),
        (of_a_tensor_that_nobody_holds, "x / torch.tensor(8.0) / torch.tensor(16.0)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_no_call_has_made_is_made_of_its_numbers(
    cut: Callable[..., Any], function: Callable[[Tensor], Tensor], text: str
) -> None:
    assert text in cut(Net(function), 3, SIZE, SIZE).forward


def long(x: Tensor) -> Tensor:
    weights = torch.tensor([float(n) for n in range(SIZE * SIZE * 5)]).view(5, SIZE, SIZE)
    return (x[:, :, None] * weights).sum(2)


def drawn(x: Tensor) -> Tensor:
    noise = torch.randn(SIZE)
    noise[0] = 0.0
    return x * noise


@pytest.mark.parametrize("function", [long, drawn])
def test_many_numbers_and_drawn_ones_are_refused(
    find: Callable[..., Any], function: Callable[[Tensor], Tensor]
) -> None:
    with pytest.raises(UnsupportedError, match="neither a parameter nor a buffer") as caught:
        find(Net(function), (2, 3, SIZE, SIZE))
    assert "register_buffer" in str(caught.value)


def test_tensors_are_in_float64_where_all_is(toys_installed: None) -> None:
    small = prunecore.prune(Net(doubled), level=30, input_shape=(3, SIZE, SIZE))
    assert "x @ torch.eye(4).mul(2).add(1)" in small.source
    assert small.report["verified"]["max_relative_difference"] == 1e-12
    assert torch.get_default_dtype() is torch.float32


class Holding(nn.Module):
    """Holds tensors as attributes that are neither parameters nor buffers."""

    def __init__(self, function: Callable[[Any, Tensor], Tensor], size: int = SIZE) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)
        self.shift, self.order = torch.arange(1.0, size + 1), torch.tensor([2, 0, 3, 1])
        self.scales = torch.rand(6, 1, 1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self, self.first(x)))


HELD: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "as_it_is": lambda net, x: x * net.shift,
    "a_part": lambda net, x: x + net.shift[1],
    "what_is_computed_of_it": lambda net, x: x * net.shift[:1].mul(2),
    "places": lambda net, x: x[..., net.order],
    "one_for_each_channel": lambda net, x: x * net.scales,
}


@pytest.mark.parametrize("name", HELD)
def test_short_tensors_that_attributes_hold_are_constants(
    cut: Callable[..., Any], name: str
) -> None:
    result = cut(Holding(HELD[name]), 3, SIZE, SIZE)
    assert result.text.count("persistent=False") == 1
    assert result.dependencies.left_whole == {}


class HoldingLong(Holding):
    """Holds a long tensor of which one axis is one of channels, and shares it with a layer."""

    def __init__(self) -> None:
        super().__init__(lambda net, x: net.beside(x + net.table), 80)
        self.table = torch.rand(6, 1, 80)
        self.beside = Holding(lambda net, x: x - net.table)
        self.beside.first = nn.Conv2d(6, 6, 1)
        self.beside.last = nn.Identity()
        self.beside.table = self.table
        self.unused = torch.rand(100)


def test_long_tensors_that_attributes_hold_are_stored(cut: Callable[..., Any]) -> None:
    result = cut(HoldingLong(), 3, 80, 80)
    assert result.dependencies.left_whole == {}
    model: Any = result.model
    places = result.keep.indices(model.table, 0)
    assert places is not None
    for name in ("table", "beside.table"):
        assert torch.equal(result.small.state_dict()[name], model.table[places])
    assert "unused" not in result.text


def _counting(net: Any, x: Tensor) -> Tensor:
    net.shift = net.shift + 1
    return x * net.shift


def _counting_in_place(net: Any, x: Tensor) -> Tensor:
    net.shift += 1
    return x * net.shift


@pytest.mark.parametrize("function", [_counting, _counting_in_place])
def test_a_tensor_that_changes_from_call_to_call_is_refused(
    find: Callable[..., Any], function: Callable[[Any, Tensor], Tensor]
) -> None:
    with pytest.raises(UnsupportedError, match=r"changes self\.shift|neither a parameter nor"):
        find(Holding(function), (2, 3, SIZE, SIZE))


def test_torch_is_as_before_after_a_trace(cut: Callable[..., Any]) -> None:
    before = torch.zeros, torch.tensor
    cut(Net(normalized), 3, SIZE, SIZE)
    assert (torch.zeros, torch.tensor) == before


def test_a_tensor_that_is_changed_in_place_is_no_longer_what_was_made() -> None:
    made = MadeTensors(OwnDraws(), torch.clone, torch.clone, lambda _: None)
    with made:
        tensor = torch.zeros(3)
        again = tensor.add_(1)
    assert again is tensor
    assert made.how(tensor, nn.Identity()) is None


def filled(net: Any, x: Tensor) -> Tensor:
    h, w = x.shape[2:]
    strides = [x.new_full((h, w), net.shift[number]) for number in range(2)]
    return x * torch.stack(strides).sum(0).add(torch.full_like(x, net.shift[2]))


def test_a_number_that_is_a_tensor_fills_another(cut: Callable[..., Any]) -> None:
    result = cut(Holding(filled), 3, SIZE, SIZE)
    assert "x.new_full((h, w), self.shift[0])" in result.forward
    assert result.dependencies.left_whole == {}
