"""Forwards drawn as text that branch: by what they are given, by sizes and in training."""

from __future__ import annotations

import copy

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import nn

from .random_forwards import SIDE, WIDTHS, Draw, Drawing, drawn


class Branching(Drawing):
    """Draws statements that branch by these inputs, too.

    Args:
        draw: hypothesis's.
        has_rows: whether tensors are rows of vectors, not maps.
        width: the channels of the inputs.
        inputs: their names; each may be `None`.
    """

    def __init__(self, draw: Draw, has_rows: bool, width: int, inputs: list[str]) -> None:
        super().__init__(draw, has_rows)
        length = "x.shape[1]" if has_rows else "x.shape[2]"
        self.variables["x"] = self.locked["x"] = width
        self.heads = [
            *self.heads,
            (f"if {length} > {SIDE}:", {}, {}),
            (f"if {length} % 2:", {}, {}),
        ]
        for name in inputs:
            given = {name: width}
            self.heads += [
                (f"if {name} is not None:", given, {}),
                (f"if {name} is not None and self.training:", given, {}),
                (f"if {name} is None:", {}, given),
            ]


@st.composite
def ways(draw: Draw) -> tuple[nn.Module, list[tuple[int, ...]]]:
    """A network whose forward branches, and the shapes of its inputs."""
    inputs = ["extra", "mask"][: draw(st.integers(0, 2))]
    has_rows, width = draw(st.booleans()), draw(st.sampled_from(WIDTHS))
    drawing = Branching(draw, has_rows, width, inputs)
    drawing.assign(*drawing.through(drawing.variable()))
    for _ in range(draw(st.integers(1, 3))):
        drawing.block(1, 0, 2)
        drawing.branch(1)
    arguments = "".join(f", {name}=None" for name in inputs)
    lines = [f"def forward(self, x{arguments}):", *drawing.lines, f"    return {drawing.result()}"]
    shape = (SIDE, width) if has_rows else (width, SIDE, SIDE)
    network, shapes = drawn(drawing.children, "\n".join(lines) + "\n"), [shape] * (1 + len(inputs))
    assume(_runs(network, shapes))
    return network, shapes


def _runs(network: nn.Module, shapes: list[tuple[int, ...]]) -> bool:
    """Whether a network runs in both modes: what a branch alone puts into a list may be lacking."""
    try:
        for is_training in (True, False):
            with torch.no_grad():
                copy.deepcopy(network).train(is_training)(*(torch.rand(2, *s) for s in shapes))
    except (IndexError, RuntimeError):
        return False
    return True
