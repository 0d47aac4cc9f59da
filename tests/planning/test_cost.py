"""Counts are those of the networks that are really built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunecore.planning.cost import Cost, Counter
from prunecore.plugin import Keep
from prunecore.writing.building import transfer_weights

from .. import toy


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 5, 3, padding=1)
        self.b = nn.Conv2d(3, 4, 1, bias=False)
        self.bn = nn.BatchNorm2d(9)
        self.c = nn.Conv2d(9, 9, 3, stride=2, padding=1)
        self.unused = nn.Linear(100, 100)
        self.scale = nn.Parameter(torch.rand(9, 1, 1))
        self.fc = nn.Linear(9 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(torch.cat([self.a(x), self.b(x)], 1))
        x = self.c(x) * self.scale + x[:, :, ::2, ::2]
        return self.fc(F.max_pool2d(x, 1).flatten(1))


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(3, 6)
        self.b = nn.Linear(6, 6)
        self.c = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.b(self.a(x)).relu()))


class Padded(nn.Module):
    """Two places of the sum are the input's, and always stay."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 6), nn.Linear(2, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.cat([x, self.a(x)], 1) + self.b(x))


NETWORKS = [
    (Padded, (2,)),
    (Joined, (3, 4, 4)),
    (Shared, (3,)),
    (lambda: nn.Sequential(toy.Dense(3, 8), toy.Scale(8), toy.Dense(8, 4)), (3,)),
    (lambda: nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 4)), (5, 7, 3)),
]


def count(network: nn.Module, shape: tuple[int, ...], stored: Any) -> Cost:
    """What a network takes, counted while it runs."""
    macs = []

    def add(module: Any, inputs: Any, output: Tensor) -> None:
        places = output[0].numel() // module.weight.shape[0]
        macs.append(module.weight.numel() * places)

    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) or type(module).__name__ == "Dense":
            module.register_forward_hook(add)
    with torch.no_grad():
        network(torch.rand(1, *shape))
    reached = {id(t): t for t in stored}.values()
    return Cost(
        sum(tensor.numel() for tensor in reached if isinstance(tensor, nn.Parameter)),
        sum(macs),
        sum(tensor.numel() * tensor.element_size() for tensor in reached),
    )


@pytest.mark.parametrize(("make", "shape"), NETWORKS)
def test_the_count_is_that_of_the_network_which_is_built(
    cut: Callable[..., Any], make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    for seed in range(3):
        result = cut(make(), *shape, seed=seed)
        small = result.small.float()
        cost = Counter(result.dependencies).cost(result.keep.kept)
        counted = count(small, shape, [*small.parameters(), *small.buffers()])
        assert (cost.params, cost.macs) == (counted.params, counted.macs)


@pytest.mark.parametrize(("make", "shape"), NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_bytes_are_those_of_the_state_dict(
    find: Callable[..., Any],
    toys: Any,
    make: Callable[[], nn.Module],
    shape: tuple[int, ...],
    dtype: torch.dtype,
) -> None:
    model = make().to(dtype)
    found = find(model, (2, *shape))
    kept = ~found.removable | (np.arange(found.count) % 2 == 0)
    weights = transfer_weights(model, Keep(model, found, kept), toys)
    size = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    assert Counter(found).cost(kept).bytes == size


def test_everything_kept_is_the_original(find: Callable[..., Any]) -> None:
    model = Joined()
    found = find(model, (2, 3, 4, 4))
    stored = [t for name, t in model.state_dict(keep_vars=True).items() if "unused" not in name]
    cost = Counter(found).cost(np.ones(found.count, dtype=bool))
    assert cost == count(model, (3, 4, 4), stored)
    assert cost.as_dict() == {"params": cost.params, "macs": cost.macs, "bytes": cost.bytes}


def test_a_network_without_weights_takes_nothing(find: Callable[..., Any]) -> None:
    found = find(nn.ReLU(), (2, 3))
    assert Counter(found).cost(np.ones(0, dtype=bool)) == Cost(0, 0, 0)


def test_a_network_of_which_nothing_is_bound(find: Callable[..., Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.rand(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale

    assert Counter(find(Net(), (2, 4, 4))).cost(np.ones(0, dtype=bool)) == Cost(16, 0, 64)


class Attention(nn.Module):
    """Attention by two products of tensors; a head of two goes as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(6, 12) for _ in range(3))
        self.out = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(2, (4, 3)).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        mixed = (q @ k.transpose(2, 3)).softmax(3) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))


class Fused(Attention):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(2, (4, 3)).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("make", [Attention, Fused])
@pytest.mark.parametrize("heads", [4, 2])
def test_products_of_attention_count_for_the_heads_that_stay(
    find: Callable[..., Any], make: Callable[[], nn.Module], heads: int
) -> None:
    found = find(make(), (2, 7, 6))
    made = found.axes[found.layers["v"]]
    kept = np.ones(found.count, dtype=bool)
    kept[np.unique(made[heads * 3 :])] = False
    width = heads * 3
    layers = 7 * (3 * 6 * width + width * 5)
    assert Counter(found).cost(kept).macs == layers + 2 * 7 * 7 * width


class Pooled(nn.Module):
    """Two tensors meet in a product that sums over the places, and the channels stay apart."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Linear(3, 8), nn.Linear(3, 1), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.einsum("blc,blk->bc", self.a(x), self.b(x)))


def test_a_product_counts_the_channels_that_stay(find: Callable[..., Any]) -> None:
    found = find(Pooled(), (2, 5, 3))
    kept = np.ones(found.count, dtype=bool)
    kept[found.axes[found.layers["a"]][:3]] = False
    assert Counter(found).cost(kept).macs == 5 * 3 * (5 + 1) + 5 * 5 + 5 * 2


def test_a_product_of_a_block_that_goes_is_not_counted(find: Callable[..., Any]) -> None:
    found = find(nn.Sequential(Attention(), nn.Linear(5, 2)), (2, 7, 6))
    everything = np.ones(found.count, dtype=bool)
    assert Counter(found).cost(everything, ["0"]).macs == 7 * 5 * 2
