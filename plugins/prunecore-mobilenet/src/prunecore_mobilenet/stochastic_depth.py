"""torchvision's `StochasticDepth`: a branch that training leaves out at random.

After Huang et al., "Deep Networks with Stochastic Depth", 2016, arXiv 1603.09382, and torchvision's
`stochastic_depth.py`.
"""

from __future__ import annotations

from typing import Any

from prunecore.plugin import BlockSource, Call, Channels, Signal, Writer
from prunecore_mobilenet.definitions import Definitions
from prunecore_mobilenet.kinds import Kind, torchvision_class

CLASS = "torchvision.ops.stochastic_depth.StochasticDepth"


def drops_rows(module: Any) -> bool:
    """Whether a module is a `StochasticDepth` that drops each row of a batch by itself."""
    return type(module) is torchvision_class(CLASS) and module.mode == "row" and _is_valid(module)


def define(definitions: Definitions) -> str:
    """Define the class; returns its name in the file."""
    return definitions.add("StochasticDepth", _TEXT)


def _calculate(block: Any, x: Signal, channels: Channels) -> Signal:
    """Each row as it is, or none of it."""
    if not _is_valid(block):
        channels.refuse(
            f"torchvision does not run it with p={block.p} and mode={block.mode!r}",
            'Give it a p from 0 to 1, and "row" or "batch" for its mode.',
        )
    return x


def _write(block: Any, _layers: Any, writer: Writer) -> BlockSource:
    definitions = Definitions(writer)
    name = define(definitions)
    constructor = Call(name, (block.p,), {"mode": block.mode}, {"mode": "row"})
    return BlockSource(constructor, definitions.texts)


def _is_valid(block: Any) -> bool:
    return 0 <= block.p <= 1 and block.mode in ("row", "batch")


KIND = Kind(lambda block: block, _calculate, _write)  # it has no layers that could be unusual

_TEXT = """class {name}(nn.Module):
    def __init__(self, p: float, mode: str = "row") -> None:
        super().__init__()
        self.p = p
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        rows = x.shape[0] if self.mode == "row" else 1
        survival = 1 - self.p
        noise = x.new_empty([rows] + [1] * (x.ndim - 1)).bernoulli_(survival)
        return x * (noise / survival if survival > 0 else noise)
"""
