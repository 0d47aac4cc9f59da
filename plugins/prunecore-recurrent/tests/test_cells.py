"""nn.LSTMCell, nn.GRUCell and nn.RNNCell: hidden units and features go, step by step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prunecore

CELLS = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}


class Steps(nn.Module):
    """Two cells, one after the other at each step; the second is read at the last one."""

    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 7)
        self.first = CELLS[kind](7, 6, **options)
        self.second = CELLS[kind](6, 5, **options)
        self.head = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        first = second = None
        for step in range(3):
            first = self.first(x[:, step], first)
            second = self.second(self._output(first), second)
        return self.head(self._output(second))

    def _output(self, state: Any) -> Any:
        return state[0] if isinstance(self.first, nn.LSTMCell) else state


def prune(network: nn.Module) -> prunecore.PrunedModel:
    return prunecore.prune(network, level=40, input_shape=(3, 3), mode="random", name="small")


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("options", [{}, {"bias": False}], ids=["plain", "without bias"])
def test_steps_are_exact(kind: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = Steps(kind, **options)
    small = prune(network)
    assert small.report["verified"]
    assert list(small.model.state_dict()) == list(network.state_dict())
    sizes = small.model.first.hidden_size, small.model.second.hidden_size
    assert small.model.second.input_size == sizes[0] < 6
    assert sizes[1] < 5
    small.model.train()(torch.randn(2, 3, 3)).sum().backward()


def test_a_nonlinearity_is_written() -> None:
    assert ', nonlinearity="relu")' in prune(Steps("rnn", nonlinearity="relu")).source


def test_a_unit_goes_with_its_gates() -> None:
    torch.manual_seed(0)
    kept = prune(Steps("lstm")).report["kept"]
    units = kept["second.weight_ih"][1]
    gates = [gate * 6 + unit for gate in range(4) for unit in units]
    assert kept["first.weight_ih"] == [gates, kept["embed.weight"][0]]
    assert kept["first.weight_hh"] == [gates, units]
    assert kept["first.bias_ih"] == kept["first.bias_hh"] == [gates]


def test_multiply_accumulates_are_those_of_all_steps() -> None:
    network = Steps("gru")
    weights = [p for name, p in network.named_parameters() if "weight_" in name]
    once = network.head.weight.numel()
    expected = 3 * (sum(map(torch.numel, weights)) + network.embed.weight.numel()) + once
    assert prunecore.inspect(network, input_shape=(3, 3)).macs == expected


def test_a_state_of_another_shape_is_an_error() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start = nn.Linear(3, 5)
            self.cell = nn.GRUCell(3, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.cell(x, self.start(x))

    with pytest.raises(prunecore.PrunecoreError, match=r"a state of shape \(2, 6\) is expected"):
        prunecore.prune(Net(), level=40, input_shape=(3,))
