"""Functions that are marked with `torch.fx.wrap` are followed where no rule is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor, fx, nn

from prunecore import UnsupportedError


def doubled(x: Tensor, times: int) -> tuple[Tensor, int]:
    for _ in range(times):
        x = x + x
    return x, x.ndim


def branching(x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


fx.wrap("doubled")
fx.wrap("branching")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x, rank = doubled(self.first(x), 2)
        return self.last(x) * rank


def test_a_marked_function_is_followed(cut: Callable[..., Any]) -> None:
    assert cut(Net(), 3).forward.count("x = x + x") == 2


def test_a_marked_function_that_has_a_rule_is_a_call(
    find: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, toys: Any
) -> None:
    from prunecore.plugin import FunctionRule

    class Called(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(doubled(self.first(x), 2)[0])

    rule = FunctionRule(lambda channels, operation: (operation.tensor, 2))
    monkeypatch.setattr(toys, "functions", {**toys.functions, doubled: rule})
    trace = find(Called(), (2, 3)).forwards.traces[""]
    assert doubled in [node.target for node in trace.graph.nodes]


def test_a_marked_function_that_cannot_be_followed_is_refused(find: Callable[..., Any]) -> None:
    class Branching(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(branching(self.first(x)))

    message = r"cannot be traced: .* \(.*test_wrapped.py:\d+, `return x if x"
    with pytest.raises(UnsupportedError, match=message):
        find(Branching(), (2, 3))


def test_a_trace_leaves_the_marks_as_they_were(find: Callable[..., Any]) -> None:
    find(Net(), (2, 3))
    targets = [node.target for node in fx.symbolic_trace(Net()).graph.nodes]
    assert doubled in targets
