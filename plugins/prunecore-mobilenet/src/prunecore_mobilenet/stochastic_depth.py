"""torchvision's `StochasticDepth`: a branch that training leaves out at random.

After Huang et al., "Deep Networks with Stochastic Depth", 2016, arXiv 1603.09382, and torchvision's
`stochastic_depth.py`.
"""

from __future__ import annotations

from typing import Any

from prunecore.plugin import BlockSource, Call, Channels, LazyClasses, Signal, Writer
from prunecore_mobilenet.kinds import Kind
from prunecore_mobilenet.written.common import StochasticDepth

CLASS = "torchvision.ops.stochastic_depth.StochasticDepth"


def drops_rows(module: Any) -> bool:
    """True if a module is a `StochasticDepth` that drops each row of a batch by itself."""
    return _THEIRS.found().get(type(module)) is KIND and module.mode == "row" and _is_valid(module)


def _calculate(block: Any, x: Signal, channels: Channels) -> Signal:
    """Each row as it is, or none of it."""
    if not _is_valid(block):
        channels.refuse(
            f"torchvision does not run it with p={block.p} and mode={block.mode!r}",
            'Give it a p from 0 to 1, and "row" or "batch" for its mode.',
        )
    return x


def _write(block: Any, _layers: Any, writer: Writer) -> BlockSource:
    call = Call("StochasticDepth", (block.p,), {"mode": block.mode}, {"mode": "row"})
    return writer.source(call, StochasticDepth)


def _is_valid(block: Any) -> bool:
    return 0 <= block.p <= 1 and block.mode in ("row", "batch")


KIND = Kind(lambda block: block, _calculate, _write)  # it has no layers that could be unusual
_THEIRS = LazyClasses({CLASS: KIND})
