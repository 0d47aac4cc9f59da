"""Whether a module may change a tensor in place, as far as its class's code tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunecore.tracing.modules.changes import function_may_change_tensors, may_change_tensors


def may_change(forward: Callable[..., Any], **options: Any) -> bool:
    module = type("Block", (nn.Module,), {"forward": forward})()
    vars(module).update(options)
    return may_change_tensors(module, in_training=False)


def doubled(x: Tensor) -> Tensor:
    x *= 2
    return x


def squared(x: Tensor) -> Tensor:
    return x**2


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: self.dropout(x) + F.softmax(x, dim=-1),
        lambda self, x: squared(x)[:, ::2].transpose(1, 2),
        lambda self, x: torch.sigmoid(x).view(x.shape[0], -1),
        lambda self, x: [one + 1 for one in x],
    ],
)
def test_code_that_only_computes_changes_nothing(forward: Callable[..., Any]) -> None:
    assert not may_change(forward)


def assigned(self: Any, x: Tensor) -> Tensor:
    x[:, 0] = 1
    return x


def added(self: Any, x: Tensor) -> Tensor:
    x += 1
    return x


def imported(self: Any, x: Tensor) -> Tensor:
    from torch.nn.functional import relu as f

    return f(x, True)


@pytest.mark.parametrize(
    "forward",
    [
        assigned,
        added,
        imported,
        lambda self, x: x.add_(1),
        lambda self, x: doubled(x),
        lambda self, x: F.relu(x, True),
        lambda self, x: torch.nn.functional.dropout(x, 0.5, False, True),
        lambda self, x: F.softplus(x, inplace=True),
        lambda self, x: torch.add(x, 1, out=x),
        lambda self, x: [one.mul_(2) for one in x],
        lambda self, x: getattr(x, "mul" + "_")(2),
        lambda self, x: torch.ops.aten.relu_(x),
        lambda self, x: F.batch_norm(x, self.mean, self.var, training=True),
    ],
)
def test_code_that_may_change_something_is_seen(forward: Callable[..., Any]) -> None:
    assert may_change(forward)


def test_what_a_module_holds_counts() -> None:
    assert not may_change(squared, width=3)
    assert may_change(squared, inplace=True)
    assert may_change(squared, function=squared)


def test_layers_of_torch_change_what_they_are_told_to() -> None:
    layers = [nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(3), nn.Embedding(3, 4), nn.Dropout()]
    changing = [nn.ReLU(inplace=True), nn.Embedding(3, 4, max_norm=1.0), nn.Dropout(inplace=True)]
    assert not any(may_change_tensors(layer, in_training=False) for layer in layers)
    assert all(may_change_tensors(layer, in_training=False) for layer in changing)
    assert may_change_tensors(nn.BatchNorm2d(3), in_training=True)


def test_a_method_that_no_forward_comes_to_does_not_count() -> None:
    class Block(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1

        def load(self, state: dict[str, Any]) -> None:
            state["x"] = 1

    class Called(Block):
        def forward(self, x: Tensor) -> Tensor:
            self.load({})
            return x + 1

    class Asked(Block):
        def forward(self, x: Tensor) -> Tensor:
            return x + self.count

        @property
        def count(self) -> int:
            self.counts[0] += 1
            return 1

    assert not may_change_tensors(Block(), in_training=False)
    assert may_change_tensors(Called(), in_training=False)
    assert may_change_tensors(Asked(), in_training=False)


def test_functions_of_ones_own_are_looked_into() -> None:
    assert not function_may_change_tensors(squared)
    assert not function_may_change_tensors(F.relu)
    assert not function_may_change_tensors(torch.add)
    assert function_may_change_tensors(doubled)
    assert function_may_change_tensors(F.batch_norm)
    assert function_may_change_tensors(torch.ops.aten.relu)
