"""What a network stores can be cut and scored, or is named: its types and its values."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunecore.channels.stored import check_stored, kind_of, type_of
from prunecore.errors import WeightsError


class Net(nn.Module):
    """A batch norm's statistics are cut, a mask is not; the spare layer is not used."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 1)
        self.bn = nn.BatchNorm2d(4)
        self.last = nn.Conv2d(4, 2, 1)
        self.spare = nn.Linear(2, 2)
        self.register_buffer("mask", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.bn(self.conv(x))) + self.mask


NAMES = ["conv.weight", "conv.bias", "bn.weight", "bn.running_mean", "bn.running_var", "last.bias"]


def changed(name: str, change: Callable[[Tensor], Tensor]) -> Net:
    """A network one of whose tensors is another one."""
    model = Net()
    holder, _, key = name.rpartition(".")
    module: Any = model.get_submodule(holder)
    tensor = change(getattr(module, key).detach())
    if key in module._parameters:
        module._parameters[key] = nn.Parameter(tensor, tensor.is_floating_point())
    else:
        module._buffers[key] = tensor
    return model


def with_first(value: float) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.clone().index_fill_(0, torch.tensor([0]), value)


@pytest.fixture
def check(find: Callable[..., Any]) -> Callable[[nn.Module], None]:
    dependencies = find(Net(), (2, 2, 3, 3))
    return lambda model: check_stored(model, dependencies)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_value_that_is_not_finite(
    check: Callable[[nn.Module], None], name: str, value: float, dtype: torch.dtype
) -> None:
    model = changed(name, with_first(value)).to(dtype)
    count = model.state_dict()[name][0].numel()
    with pytest.raises(WeightsError) as caught:
        check(model)
    wrong = "no finite numbers (NaN or infinity)"
    assert f"{name} of the network holds values that are {wrong}: {count} of" in str(caught.value)


def test_a_mask_may_be_infinite_but_not_nan(check: Callable[[nn.Module], None]) -> None:
    check(changed("mask", with_first(-math.inf)))
    check(changed("mask", lambda _: torch.tensor([math.inf, -math.inf, 0])))
    with pytest.raises(WeightsError, match=r"^mask .* no numbers \(NaN\): 1 of 3"):
        check(changed("mask", with_first(math.nan)))


def test_what_the_written_network_does_without_may_hold_anything(
    check: Callable[[nn.Module], None],
) -> None:
    check(changed("spare.weight", with_first(math.nan)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_sum_that_is_too_large_is_no_infinite_value(
    check: Callable[[nn.Module], None], dtype: torch.dtype
) -> None:
    most = torch.finfo(dtype).max
    check(changed("conv.bias", lambda x: torch.full_like(x, most, dtype=dtype)))


def test_a_tensor_without_elements_is_right(check: Callable[[nn.Module], None]) -> None:
    check(changed("mask", lambda x: x[:0]))


@pytest.mark.parametrize(
    ("name", "change", "wrong"),
    [
        ("conv.bias", lambda x: x.to("meta"), "has no values: it is on the meta device"),
        ("conv.bias", lambda x: x.to_sparse(), "is of the type sparse_coo float32, which cannot"),
        ("mask", lambda x: x.to_sparse(), "is of the type sparse_coo float32, which cannot"),
        ("conv.bias", lambda x: x.to(torch.float8_e5m2), "is of the type float8_e5m2, which"),
        ("conv.bias", lambda x: x.to(torch.complex64), "is of the type complex64, which cannot"),
    ],
)
def test_a_type_that_cannot_be_cut(
    check: Callable[[nn.Module], None], name: str, change: Any, wrong: str
) -> None:
    with pytest.raises(WeightsError, match=f"^{name} of the network {wrong}"):
        check(changed(name, change))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int32, torch.bool, torch.float8_e5m2])
def test_a_buffer_that_is_not_cut_may_be_of_any_type(
    check: Callable[[nn.Module], None], dtype: torch.dtype
) -> None:
    check(changed("mask", lambda x: x.to(dtype)))


def test_the_network_is_only_read(check: Callable[[nn.Module], None]) -> None:
    model = Net()
    before = copy.deepcopy(model.state_dict())
    check(model)
    assert all(before[name].equal(tensor) for name, tensor in model.state_dict().items())


def test_types_that_can_stand_for_each_other_are_of_one_kind() -> None:
    ones = torch.ones(2)
    assert kind_of(ones) == kind_of(ones.half()) == kind_of(ones.double()) == "a float"
    assert kind_of(ones.int()) == kind_of(ones.long()) == "a whole number"
    assert kind_of(ones.to("meta")) == type_of(ones.to("meta")) == "meta float32"
    assert kind_of(ones.bool()) == type_of(ones.bool()) == "bool"
    assert kind_of(ones.to_sparse()) == "sparse_coo float32"
