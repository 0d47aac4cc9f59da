"""How each step of pruning grows with a network's number of blocks.

python benchmarks/scaling.py [BLOCKS ...] [--write]
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from page import parser_of, show, table
from torch import Tensor, nn

from prunecore.channels.keep import Keep
from prunecore.inputs import Inputs, of_examples, of_shape
from prunecore.traced_model import TracedModel
from prunecore.verifying.comparison import verify
from prunecore.writing.building import build, transfer_weights
from prunecore.writing.source_file import write_network

BLOCKS = (100, 1000, 10_000)
WIDTH = 16
STEPS = ("walk", "plan", "write", "build", "verify")


class Block(nn.Module):
    """A residual block that no plugin owns."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(WIDTH)
        self.conv2 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Its input, and what the branch makes of it."""
        out: Tensor = self.conv2(torch.relu(self.bn1(self.conv1(x))))
        return x + out


def residual(blocks: int) -> tuple[nn.Module, Inputs]:
    """So many residual blocks, one after the other."""
    body = [Block() for _ in range(blocks)]
    model = nn.Sequential(nn.Conv2d(3, WIDTH, 3), *body, nn.Conv2d(WIDTH, 10, 1))
    return model, of_shape((3, 8, 8))


def plain(blocks: int) -> tuple[nn.Module, Inputs]:
    """So many convolutions, each with an activation."""
    body = [m for _ in range(blocks) for m in (nn.Conv2d(WIDTH, WIDTH, 1), nn.ReLU())]
    model = nn.Sequential(nn.Conv2d(3, WIDTH, 3), *body, nn.Conv2d(WIDTH, 10, 1))
    return model, of_shape((3, 8, 8))


def encoder(blocks: int) -> tuple[nn.Module, Inputs]:
    """So many layers of a transformer's encoder."""
    layer = nn.TransformerEncoderLayer(2 * WIDTH, 4, 2 * WIDTH, batch_first=True)
    model = nn.TransformerEncoder(layer, blocks, enable_nested_tensor=False)
    return model, of_examples((torch.rand(1, 6, 2 * WIDTH),))


NETWORKS: dict[str, Callable[[int], tuple[nn.Module, Inputs]]] = {
    "residual blocks": residual,
    "convolutions": plain,
    "encoder layers": encoder,
}


def measure(
    make: Callable[[int], tuple[nn.Module, Inputs]], blocks: int
) -> tuple[list[float], int]:
    """The CPU seconds of each step, and the lines of the written file."""
    model, inputs = make(blocks)
    times: list[float] = []

    def timed(step: Callable[[], Any]) -> Any:
        start = time.process_time()
        done = step()
        times.append(time.process_time() - start)
        return done

    traced = timed(lambda: TracedModel(model, inputs))
    plan = timed(lambda: traced.plan(30))
    keep = Keep(model, traced.dependencies, plan.kept)
    source = timed(lambda: write_network(model, keep, traced.plugins, "net", "A network."))
    weights = transfer_weights(model, keep, traced.plugins)
    small = timed(lambda: build(source, "net", weights))
    timed(lambda: verify(model, keep, small, inputs))
    return times, source.count("\n")


def main() -> None:
    """Print CPU milliseconds a block, and with which power of their number each step grows."""
    parser = parser_of(__doc__)
    parser.add_argument("blocks", nargs="*", type=int, default=BLOCKS, metavar="BLOCKS")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, make in NETWORKS.items():
        measure(make, 10)  # imports and caches
        found = [measure(make, blocks) for blocks in given.blocks]
        for blocks, (times, lines) in zip(given.blocks, found, strict=True):
            cells = (f"{1000 * seconds / blocks:.2f}" for seconds in times)
            rows.append([name, f"{blocks:,}", *cells, f"{lines:,}"])
        if len(given.blocks) > 1:
            growth = math.log(given.blocks[-1] / given.blocks[0])
            pairs = zip(found[0][0], found[-1][0], strict=True)
            powers = (f"{math.log(more / less) / growth:.2f}" for less, more in pairs)
            rows.append([name, "power", *powers, ""])
    show("growth", table(["network", "blocks", *STEPS, "lines"], rows), given.write)


if __name__ == "__main__":
    main()
