"""What is frozen in the original is frozen in the written file, as short as it can be said."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prunecore


class Net(nn.Module):
    """A trunk, layers with norms, and a gain of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.gain = nn.Parameter(torch.ones(8))
        self.places = nn.Parameter(torch.arange(8), requires_grad=False)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.trunk(x) * (self.gain + self.places).view(1, -1, 1, 1)
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x.mean((2, 3))


NORMS = [
    "for module in self.modules():",
    "    if isinstance(module, nn.BatchNorm2d):",
    "        module.requires_grad_(False)",
]
FROZEN: list[tuple[list[str], list[str]]] = [
    ([], []),
    (["trunk"], ["self.trunk.requires_grad_(False)"]),
    (["gain", "layers.0.0.bias"], [
        "self.gain.requires_grad_(False)",
        "self.layers[0][0].bias.requires_grad_(False)",
    ]),
    (["layers.0", "layers.1"], ["self.layers.requires_grad_(False)"]),
    (["layers.0.1", "layers.1.1", "trunk.1"], NORMS),
    (["layers.0.1", "layers.1.1"], [
        "self.layers[0][1].requires_grad_(False)",
        "self.layers[1][1].requires_grad_(False)",
    ]),
    (["layers.0.1", "layers.1.1", "trunk"], [*NORMS, "self.trunk.requires_grad_(False)"]),
    ([""], ["self.requires_grad_(False)"]),
]  # fmt: skip


@pytest.mark.parametrize(("paths", "lines"), FROZEN)
def test_what_is_frozen_stays_frozen(paths: list[str], lines: list[str]) -> None:
    model = Net()
    for path in paths:
        held: Any = model.get_parameter(path) if path.endswith(("gain", "bias")) else None
        (held if held is not None else model.get_submodule(path)).requires_grad_(False)
    expected = {name: one.requires_grad for name, one in model.named_parameters()}
    small = prunecore.prune(model, level=40, input_shape=(3, 4, 4), name="net")
    file: dict[str, Any] = {}
    exec(small.source, file)
    for written in (small.model, file["net"]()):
        assert {name: one.requires_grad for name, one in written.named_parameters()} == expected
    said = [line for line in small.source.splitlines() if "requires_grad_" in line]
    assert len(said) == sum("requires_grad_" in line for line in lines)
    assert all(f"{' ' * 8}{line}" in small.source.splitlines() for line in lines)
