"""Traces that serve several modules."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from prunecore.channels.ids import without_channels
from prunecore.channels.signal import Signal, shaped
from prunecore.tracing.reuse import Kept, likeness
from prunecore.tracing.symbolic_trace import trace_level


class Block(nn.Module):
    def __init__(self, width: int = 4, power: int = 1, rate: float = 0.1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 1)
        self.drop = nn.Dropout(rate)
        self.power = power

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.drop(self.conv(x)) ** self.power
        torch._assert(out.shape[1] == x.shape[1], "of another width")
        return out + x


class Reading(Block):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x) * self.drop.p
        return out


class Counting(Block):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        Counting.calls += 1
        out: Tensor = self.conv(x) * Counting.calls
        return out


CALLS = 0


def counted() -> int:
    global CALLS
    CALLS += 1
    return CALLS


class Asking(Block):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x) * counted()
        return out


class Looking(Block):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out * 2 if next(self.conv.parameters())[0, 0, 0, 0].item() > 0 else out


def given(*shape: int) -> dict[str, Any]:
    return {"x": Signal(shaped(shape), without_channels(len(shape)))}


GIVEN = given(2, 4, 8, 8)


def test_blocks_of_one_class_with_the_same_options_are_alike() -> None:
    assert likeness(Block(), GIVEN) == likeness(Block(), GIVEN) is not None


def test_a_childs_probability_makes_no_difference_unless_the_forward_reads_it() -> None:
    assert likeness(Block(rate=0.1), GIVEN) == likeness(Block(rate=0.2), GIVEN)
    assert likeness(Block(rate=0.1), GIVEN) != likeness(Block(rate=0.0), GIVEN)
    assert likeness(Reading(rate=0.1), GIVEN) != likeness(Reading(rate=0.2), GIVEN)


def test_a_childs_fraction_that_is_no_probability_makes_a_difference() -> None:
    half, quarter = Block(), Block()
    half.drop, quarter.drop = nn.Upsample(scale_factor=0.5), nn.Upsample(scale_factor=0.25)  # type: ignore[assignment]
    assert likeness(half, GIVEN) != likeness(quarter, GIVEN)


def test_options_shapes_and_what_is_given_make_a_difference() -> None:
    first = likeness(Block(), GIVEN)
    shared = Block()
    shared.drop = shared.conv  # type: ignore[assignment]
    apart = Block()
    apart.drop = nn.Conv2d(4, 4, 1)  # type: ignore[assignment]
    assert first != likeness(Block(power=2), GIVEN)
    assert first != likeness(Block(width=8), GIVEN)
    assert first != likeness(Block(), given(2, 4, 6, 8))
    assert first != likeness(Block(), {**GIVEN, "scale": 2})
    assert likeness(Block(), {"scale": 2}) != likeness(Block(), {"scale": 3})
    assert likeness(shared, GIVEN) != likeness(apart, GIVEN)


def test_what_no_text_tells_is_like_nothing() -> None:
    holding = Block()
    holding.table = torch.ones(3)  # type: ignore[assignment]
    assert likeness(holding, GIVEN) is None
    assert likeness(Block(), {"scale": object()}) is None
    assert likeness(Counting(), GIVEN) is None
    assert likeness(Asking(), GIVEN) is None
    assert likeness(Looking(), GIVEN) is None


def test_a_copy_is_the_trace_as_it_was_made() -> None:
    made = trace_level(Block(), "block", GIVEN)
    kept = Kept(made)
    before = str(made.eval)
    names = [node.name for node in made.eval.nodes]
    first = next(node for node in made.eval.nodes if node.op == "call_module")
    first.replace_all_uses_with(first.args[0])
    made.eval.erase_node(first)
    copied = kept.copy()
    assert copied.training is copied.eval
    assert str(copied.eval) == before
    assert [node.name for node in copied.eval.nodes] == names
    assert [node.meta for node in kept.copy().eval.nodes] == [n.meta for n in copied.eval.nodes]
