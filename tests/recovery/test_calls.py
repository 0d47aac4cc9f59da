"""What a module tells of itself by the one call of a function that it returns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunecore.functions.rule import FunctionRule, Operation, elementwise
from prunecore.recovery.calls import called_layers, calls_all

from ..criteria.linear import Rows


class OfCall(Rows):
    def __init__(self, operation: Operation) -> None:
        _, self.weight, self.bias = operation.args


FUNCTIONS = {F.linear: FunctionRule(elementwise, linear_map=OfCall)}


class Doubling(nn.Linear):
    """Reads twice what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(2 * x, self.weight, self.bias)


class Rectified(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias).relu()


class Scaled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.abs(), self.bias)


class OfAll(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.reshape(1, -1), self.weight, self.bias)


class Shifted(nn.Linear):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.shift = nn.Parameter(torch.ones(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.shift)


def test_rows_are_what_the_function_reads() -> None:
    network = nn.Sequential(Doubling(4, 3), nn.ReLU())
    told = called_layers(network, torch.zeros(1, 4), FUNCTIONS, ())
    layer = told.pop("0")
    assert not told
    assert layer.weight is network[0].weight
    assert layer.bias is network[0].bias
    x = torch.rand(5, 4)
    output = network[0](x)
    size, chosen = layer.places(output), torch.zeros(5, 1, dtype=torch.long)
    rows: Any = layer.rows(x, size, chosen)
    torch.testing.assert_close(rows[0], 2 * x)
    computed = rows[0] @ layer.matrix()[0].T + layer.bias
    torch.testing.assert_close(computed, layer.answers(output, chosen))
    assert layer.as_weight(layer.matrix()).equal(layer.weight)


@pytest.mark.parametrize("module", [Rectified(4, 4), Scaled(4, 4), OfAll(4, 4), Shifted(4, 4)])
def test_what_does_more_or_reads_otherwise_is_left_alone(module: nn.Module) -> None:
    network = nn.Sequential(Doubling(4, 4), module)
    image = torch.zeros(1, 2, 2) if isinstance(module, OfAll) else torch.zeros(1, 4)
    network = module if isinstance(module, OfAll) else network
    assert "1" not in called_layers(network, image, FUNCTIONS, ())
    assert "" not in called_layers(network, image, FUNCTIONS, ())


def test_a_layer_that_answers_twice_is_left_alone() -> None:
    layer = Doubling(4, 4)
    assert not called_layers(nn.Sequential(layer, layer), torch.zeros(1, 4), FUNCTIONS, ())


def test_what_owners_tell_of_is_theirs() -> None:
    network = nn.Sequential(Doubling(4, 4), Doubling(4, 4))
    assert [*called_layers(network, torch.zeros(1, 4), FUNCTIONS, ["0"])] == ["1"]


class ByWeight(nn.Module):
    """Computes with a layer's weight, and does not call the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.layer.weight)


def test_a_layer_that_is_computed_with_is_not_called() -> None:
    network = nn.Sequential(nn.Linear(4, 4), ByWeight())
    assert calls_all(network, (4,), ["0", "1"])
    assert not calls_all(network, (4,), ["0", "1.layer"])
    assert not network[0]._forward_pre_hooks
