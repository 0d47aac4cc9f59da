"""The new state dict: cut, complete, and with memory of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prunecore.plugin import Keep
from prunecore.registry import Plugins
from prunecore.writing.building import transfer_weights

from .. import toy


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 6)
        self.scale = toy.Scale(6)
        self.again = self.scale
        self.twin = nn.Linear(3, 6)
        self.twin.weight = self.first.weight
        self.last = nn.Linear(6, 2)
        self.unused = toy.Scale(9)
        self.register_buffer("steps", torch.tensor(7))
        self.register_buffer("constant", torch.ones(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.again(self.scale(self.first(x))) + self.twin(x)) * self.constant


def moved(
    find: Callable[..., Any], toys: Plugins, model: nn.Module, *gone: int
) -> dict[str, Tensor]:
    found = find(model, (2, 3))
    kept = np.ones(found.count, dtype=bool)
    kept[list(gone)] = False
    return transfer_weights(model, Keep(model, found, kept), toys)


def test_every_tensor_is_cut_along_every_bound_axis(
    find: Callable[..., Any], toys: Plugins
) -> None:
    model = Net()
    weights = moved(find, toys, model, 1, 4)
    left = [0, 2, 3, 5]
    expected = {
        "first.weight": model.first.weight[left],
        "first.bias": model.first.bias[left],
        "scale.weight": model.scale.weight[left],
        "scale.count": torch.tensor(4),
        "again.weight": model.scale.weight[left],
        "again.count": torch.tensor(4),
        "twin.weight": model.first.weight[left],
        "twin.bias": model.twin.bias[left],
        "last.weight": model.last.weight[:, left],
        "last.bias": model.last.bias,
        "steps": torch.tensor(7),
    }
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(weights[name], tensor), name
        assert weights[name].dtype == tensor.dtype
        assert not weights[name].requires_grad


def test_no_tensor_shares_memory_with_the_original_or_another(
    find: Callable[..., Any], toys: Plugins
) -> None:
    model = Net()
    for gone in ((), (1, 4)):
        weights = moved(find, toys, model, *gone)
        places = [t.untyped_storage().data_ptr() for t in weights.values()]
        own = {t.untyped_storage().data_ptr() for t in model.state_dict().values()}
        assert len(set(places)) == len(places)
        assert not own & set(places)


def test_the_weights_can_be_saved_as_they_are(
    find: Callable[..., Any], toys: Plugins, tmp_path: Path
) -> None:
    """safetensors takes neither shared nor strided memory."""
    model = Net()
    with torch.no_grad():
        model.last.weight = nn.Parameter(torch.rand(6, 2).T)
    weights = moved(find, toys, model)
    save_file(weights, tmp_path / "weights.safetensors")
    again = load_file(tmp_path / "weights.safetensors")
    assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())


def test_keys_come_in_the_order_of_the_original(find: Callable[..., Any], toys: Plugins) -> None:
    model = Net()
    names = [name for name in model.state_dict() if not name.startswith("unused")]
    assert list(moved(find, toys, model, 1)) == names


def test_a_module_that_begins_like_one_left_out_is_moved(
    find: Callable[..., Any], toys: Plugins
) -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer1 = nn.Linear(3, 4)
            self.layer10 = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer10(x)

    assert set(moved(find, toys, Two())) == {"layer10.weight", "layer10.bias"}


def test_what_a_block_that_is_used_twice_holds_in_vain_is_left_out_of_both_paths(
    find: Callable[..., Any], toys: Plugins
) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 6)
            self.unused = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x)

    model = Net()
    model.scale = model.again = Block()
    weights = moved(find, toys, model)
    assert {"scale.linear.weight", "again.linear.weight"} <= weights.keys()
    assert not {"scale.unused.weight", "again.unused.weight"} & weights.keys()
