"""Modules made for their shapes alone."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils import _device

from prunecore.isolation.uninitialised import Uninitialised


def test_layers_have_shapes_and_nothing_is_drawn() -> None:
    state = torch.get_rng_state()
    with Uninitialised():
        layer = nn.Linear(3, 5)
        assert _device.CURRENT_DEVICE is None  # of all threads
    assert layer.weight.is_meta
    assert layer.weight.shape == (5, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.zeros(2).is_meta


def test_what_has_values_is_initialised() -> None:
    with Uninitialised():
        scale = nn.Parameter(torch.empty(3, device="cpu"))
        nn.init.constant_(scale, 2.0)
    assert scale.tolist() == [2.0] * 3


def test_what_is_filled_is_a_tensor_as_any_other() -> None:
    with Uninitialised():
        made = [torch.zeros(2, 3), torch.ones(size=(2, 3), dtype=torch.int32, device=None)]
        kept = torch.ones(2, device="cpu")
        tracked = torch.zeros(2, requires_grad=True)
    assert [(tensor.is_meta, tensor.shape, tensor.dtype) for tensor in made] == [
        (True, (2, 3), torch.float32),
        (True, (2, 3), torch.int32),
    ]
    assert kept.tolist() == [1, 1]
    assert tracked.is_meta
    assert tracked.requires_grad
