"""Batches that run side by side halt before the same modules, and compute what they would alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prunecore.recovery.side_by_side import SideBySide


class Three(nn.Module):
    """Three layers, the last of which also reads what the first returns."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(4, 4) for _ in range(3))
        self.outputs: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.third(self.second(x) + x)
        self.outputs.append(x)
        return x


def batches(*sizes: int) -> list[Tensor]:
    return [torch.randn(size, 4) for size in sizes]


def test_each_batch_halts_and_goes_on() -> None:
    network, given = Three(), batches(3, 3, 2)
    expected = [network(batch) for batch in given]
    network.outputs.clear()
    read: list[tuple[str, list[int]]] = []
    SideBySide(network, given).run(
        ["second", "third"],
        lambda path, inputs: read.append((path, [len(one) for one in inputs])),
    )
    assert read == [("second", [3, 3, 2]), ("third", [3, 3, 2])]
    for output, wanted in zip(network.outputs, expected, strict=True):
        torch.testing.assert_close(output, wanted, rtol=0, atol=0)


def test_what_changes_at_a_halt_counts_for_all_batches() -> None:
    network = Three()

    @torch.no_grad()
    def forget(path: str, _inputs: list[Tensor]) -> None:
        module = network.get_submodule(path)
        assert isinstance(module, nn.Linear)
        module.weight.zero_()

    SideBySide(network, batches(2, 2)).run(["third"], forget)
    for output in network.outputs:
        assert torch.equal(output, network.third.bias.expand(2, 4))


def test_whose_turn_it_is() -> None:
    network, seen = Three(), []
    runs = SideBySide(network, batches(1, 1))
    handle = network.second.register_forward_hook(lambda *_: seen.append(runs.now))
    runs.run(["third"], lambda path, inputs: None)
    handle.remove()
    assert seen == [0, 1]


def test_an_error_at_a_halt_leaves_nothing_behind() -> None:
    network = Three()

    def fail(path: str, inputs: list[Tensor]) -> None:
        raise ValueError(path)

    with pytest.raises(ValueError, match="second"):
        SideBySide(network, batches(1, 1)).run(["second"], fail)
    assert not network.outputs
    assert not network.second._forward_pre_hooks


def test_an_error_of_a_batch_passes() -> None:
    network, given = Three(), [torch.randn(1, 4), torch.randn(1, 5)]
    with pytest.raises(RuntimeError, match="shapes"):
        SideBySide(network, given).run(["second"], lambda path, inputs: None)
    assert not network.second._forward_pre_hooks
