from __future__ import annotations

import pytest
from torch import nn

from prunecore.channels.names import (
    is_bias,
    is_within,
    named_buffers,
    named_modules,
    named_parameters,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fc.bias", True),
        ("bias", True),
        ("attention.in_proj_bias", True),
        ("lstm.bias_ih_l0_reverse", True),
        ("bias.weight", False),
        ("unbiased", False),
    ],
)
def test_which_parameters_are_biases(name: str, expected: bool) -> None:
    assert is_bias(name) is expected


def shared() -> nn.Module:
    """Has a child at two paths, and a parameter and a buffer under two names each."""
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Identity(), nn.BatchNorm1d(2))
    model.add_module("again", model[0])
    model[2].weight, model[2].running_mean = model[0].weight, model[0].running_mean
    model.register_parameter("none", None)
    return model


@pytest.mark.parametrize("remove_duplicate", [True, False])
def test_names_are_those_of_torchs_methods(remove_duplicate: bool) -> None:
    model = shared()
    for ours, torchs in (
        (named_modules, model.named_modules),
        (named_parameters, model.named_parameters),
        (named_buffers, model.named_buffers),
    ):
        expected = torchs(remove_duplicate=remove_duplicate)
        assert [(name, id(one)) for name, one in ours(model, remove_duplicate)] == [
            (name, id(one)) for name, one in expected
        ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a", True), ("a.b", True), ("a.b.c", True), ("ab", False), ("b.a", False), ("", False)],
)
def test_what_lies_within_a_module(name: str, expected: bool) -> None:
    assert is_within(name, ("a", "a.b.d")) is expected
    assert not is_within(name, ())
    assert is_within(name, ("", "a")) is (expected or not name)
