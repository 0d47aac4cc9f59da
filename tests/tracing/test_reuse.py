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


class Joining(nn.Module):
    """Asks for no size."""

    def __init__(self, width: int = 4, kernel: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, kernel)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.cat([x, x], 1))


class Branching(Joining):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out * 2 if out.shape[2] > 4 else out


class Adding(Joining):
    def forward(self, x: Tensor) -> Tensor:
        x += 1
        return self.conv(x)


def width_of(layer: Any) -> int:
    width: int = layer.out_channels
    return width


class Dividing(Joining):
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x) / width_of(self.conv)
        return out


class Spelling(Joining):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv._conv_forward(x, self.conv.weight, None)


class Reaching(Joining):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) / getattr(self.conv, "out_" + "channels")  # type: ignore[no-any-return]


class Table(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def __len__(self) -> int:
        return self.size

    def forward(self, x: Tensor) -> Tensor:
        return x


class Measuring(Joining):
    def __init__(self, width: int = 4) -> None:
        super().__init__(width)
        self.table = Table(width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x) * len(self.table)
        return out


def test_sizes_make_no_difference_to_a_forward_that_asks_for_none() -> None:
    first = likeness(Joining(), GIVEN, by_sizes=False)
    assert first == likeness(Joining(8, 3), given(2, 8, 5, 5), by_sizes=False) is not None
    assert first != likeness(Joining(), given(2, 4, 8), by_sizes=False)
    assert first != likeness(Joining().double(), GIVEN, by_sizes=False)
    assert first != likeness(Joining().requires_grad_(False), GIVEN, by_sizes=False)
    assert likeness(Joining(), GIVEN) != likeness(Joining(8), GIVEN)


def test_what_a_forward_or_its_helper_reads_of_a_layer_makes_a_difference() -> None:
    narrow, wide = (likeness(Dividing(width), GIVEN, by_sizes=False) for width in (4, 8))
    assert narrow != wide


def test_a_forward_that_runs_code_of_its_layers_may_read_their_sizes() -> None:
    assert likeness(Spelling(), GIVEN, by_sizes=False) is None
    assert likeness(Measuring(), GIVEN, by_sizes=False) is None
    assert likeness(Reaching(), GIVEN, by_sizes=False) is None


def test_a_trace_tells_whether_sizes_were_asked_for() -> None:
    assert not trace_level(Joining(), "block", GIVEN).by_sizes
    assert trace_level(Branching(), "block", GIVEN).by_sizes
    assert trace_level(Adding(), "block", GIVEN).by_sizes


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
