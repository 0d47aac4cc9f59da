"""Names that cannot be reached or stored are refused, with the module that has them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from prunecore.channels.stored import check_names
from prunecore.errors import UnsupportedError


class Holder(nn.Module):
    """Has a child `inner` with a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Module()
        self.inner.layer = nn.Linear(2, 2)


@pytest.mark.parametrize("registry", ["_modules", "_parameters", "_buffers"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "cannot be part of a path"),
        ("a.b", "cannot be part of a path"),
        ("\ud800", "cannot be a key of a weights file"),
        ("children", "is hidden by another attribute of that name"),
        ("training", "is hidden by another attribute of that name"),
    ],
)
def test_a_name_that_means_something_else_is_refused(registry: str, name: str, reason: str) -> None:
    held = {"_modules": nn.Linear(2, 2), "_parameters": nn.Parameter(torch.ones(2))}
    net = Holder()
    vars(net.inner)[registry][name] = held.get(registry, torch.ones(2))
    with pytest.raises(UnsupportedError, match=reason) as caught:
        check_names(net)
    assert caught.value.path == "inner"


@pytest.mark.parametrize("registry", ["_modules", "_parameters", "_buffers"])
def test_what_is_none_may_have_any_name(registry: str) -> None:
    net = Holder()
    vars(net.inner)[registry]["children"] = None
    check_names(net)


@pytest.mark.parametrize("name", ["x", "01", "-1", "\u0663", "1" * 20])
def test_a_key_that_is_no_place_in_a_list_is_refused(name: str) -> None:
    held = nn.ParameterList([torch.ones(2)])
    held.register_parameter(name, nn.Parameter(torch.ones(2)))
    with pytest.raises(UnsupportedError, match=f"{name}' is at no place in the list"):
        check_names(nn.ModuleDict({"inner": held}))


@pytest.mark.parametrize("name", ["10", "x", "01", "1" * 20])
def test_a_list_of_modules_may_have_gaps_names_and_parameters(name: str) -> None:
    held = nn.ModuleList([nn.ReLU()])
    held.add_module(name, nn.ReLU())
    held.register_parameter("scale", nn.Parameter(torch.ones(2)))
    check_names(held)


@pytest.mark.parametrize("name", ["if", "a b", "\0", "\u202e", "\ufb01", "__private", "a" * 10_000])
def test_any_other_name_is_taken(name: str) -> None:
    net = Holder()
    net.inner.add_module(name, nn.Linear(2, 2))
    net.inner.register_buffer(f"{name}_", torch.ones(2))
    check_names(net)


@pytest.mark.parametrize(
    ("name", "value"), [("forward", None), ("state_dict", 1), ("training", "yes"), ("_buffers", [])]
)
def test_what_every_module_has_cannot_be_hidden(name: str, value: Any) -> None:
    net = Holder()
    vars(net.inner)[name] = value
    with pytest.raises(UnsupportedError, match=f"its attribute {name} hides what every module has"):
        check_names(net)


class Lists(nn.Module):
    """Has a list by a name that is a method of other modules."""

    @property
    def parameters(self) -> list[int]:  # type: ignore[override]
        return []


def test_a_class_may_hide_what_every_module_has() -> None:
    with pytest.raises(UnsupportedError, match="its attribute parameters hides what"):
        check_names(nn.Sequential(nn.Module(), Lists()))


def test_a_name_may_be_hidden_in_one_module_of_a_class() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    vars(net[0])["bias"] = 1
    with pytest.raises(UnsupportedError, match="its parameter 'bias' is hidden by") as caught:
        check_names(net)
    assert caught.value.path == "0"  # the last module is checked first


def test_a_forward_may_be_an_instance_s_own() -> None:
    net = Holder()
    vars(net.inner)["forward"] = torch.relu
    check_names(net)


def test_a_module_within_itself_is_checked_once() -> None:
    net = Holder()
    net.inner.add_module("outer", net)
    check_names(net)


@pytest.mark.filterwarnings("ignore")  # of the compiler, which is deprecated
def test_what_torchscript_has_compiled_is_named() -> None:
    net = Holder()
    net.inner.add_module("compiled", torch.jit.script(nn.Linear(2, 2)))
    with pytest.raises(UnsupportedError, match="it is compiled by TorchScript, and has no text"):
        check_names(net)


@pytest.mark.parametrize(
    "lazy",
    [nn.LazyLinear(2), nn.LazyConv2d(2, 3), nn.LazyBatchNorm2d(), nn.LazyInstanceNorm2d()],
    ids=lambda module: type(module).__name__,
)
def test_a_lazy_module_that_has_not_been_called_is_refused(lazy: nn.Module) -> None:
    with pytest.raises(UnsupportedError, match="has not been called yet") as caught:
        check_names(nn.Sequential(nn.ReLU(), lazy))
    assert caught.value.path == "1"


def test_a_lazy_module_that_has_been_called_is_as_any() -> None:
    net = nn.Sequential(nn.LazyConv2d(2, 3), nn.LazyBatchNorm2d())
    net(torch.ones(2, 3, 4, 4))
    check_names(net)
