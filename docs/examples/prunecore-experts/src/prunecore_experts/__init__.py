"""A sparse mixture of experts, for prunecore: a block that cannot be traced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prunecore.plugin import BlockSource, Call, Channels, Signal, Writer, hookimpl


class Experts(nn.Module):
    """Adds to each input what the experts that its router chooses for it make of it.

    After Shazeer et al., "Outrageously Large Neural Networks: The Sparsely-Gated
    Mixture-of-Experts Layer", 2017, arXiv 1701.06538.
    """

    def __init__(self, channels: int, widths: list[int], top: int = 1) -> None:
        super().__init__()
        self.top = top
        self.router = nn.Linear(channels, len(widths))
        self.experts = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, channels, 1),
            )
            for width in widths
        )
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.router(x.mean((2, 3))).softmax(1).topk(self.top, 1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows, ranks = torch.where(chosen == number)
            if len(rows) > 0:
                out[rows] += weights[rows, ranks].view(-1, 1, 1, 1) * expert(x[rows])
        return x + self.scale * out


@hookimpl
def prunecore_block_types() -> Sequence[type[nn.Module]]:
    """This plugin owns `Experts`."""
    return [Experts]


@hookimpl
def prunecore_calculate_dependencies(
    block: Experts, inputs: tuple[Signal, ...], channels: Channels
) -> Signal:
    """The experts' outputs and the input meet in the sum; the router's outputs stay."""
    (x,) = inputs
    choice = channels.through(block.router, channels.apply(torch.mean, x, (2, 3)))
    channels.pin(choice.ids, "its outputs are the experts to choose from")
    outs = [channels.through(expert, x) for expert in block.experts]
    channels.bind(block.scale, 0, channels.axis(x, 1))
    return channels.couple(x, *outs)


@hookimpl
def prunecore_write_block(block: Any, name: str, writer: Writer) -> BlockSource:
    """The class stands in the file as it stands above, called with the kept widths."""
    channels = writer.width(block.scale, 0)
    widths = [writer.width(expert[0].weight, 0) for expert in block.experts]
    call = Call("Experts", (channels, widths), {"top": block.top}, {"top": 1})
    return writer.source(call, Experts)
