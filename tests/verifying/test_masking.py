"""A traced forward runs as the module does, but for the calls that are replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunecore.tracing.symbolic_trace import trace_level
from prunecore.verifying.masking import replaying


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 4))
        self.shift = nn.Parameter(torch.rand(4))
        self.register_buffer("scale", torch.rand(4))

    def forward(self, x: Tensor, *others: Tensor, twice: bool = False) -> dict[str, Any]:
        for other in others:
            x = x + other
        x = F.dropout(self.inner(x), 0.5, self.training) + self.shift
        return {"out": F.softmax(x.mul(self.scale)[..., :3], dim=-1), "first": (x,)}


def check_same(expected: Any, actual: Any) -> None:
    assert actual["first"][0].equal(expected["first"][0])
    assert actual["out"].equal(expected["out"])


@pytest.mark.parametrize("others", [0, 2])
def test_without_replacements_it_computes_what_the_module_does(others: int) -> None:
    net = Net().eval()
    given = [torch.rand(2, 4) for _ in range(1 + others)]
    graph = trace_level(net, "", {"x": given[0], "others": given[1:]}).eval
    check_same(net(*given), replaying(net, {frozenset(): [graph]}, {})(*given))


def test_a_call_is_replaced_by_the_name_of_its_node() -> None:
    net = Net().eval()
    x = torch.rand(2, 4)
    graph = trace_level(net, "", {"x": x}).eval
    (name,) = (node.name for node in graph.nodes if node.target is F.softmax)
    calls = []

    def sorted_instead(*args: Any, **kwargs: Any) -> Tensor:
        calls.append(kwargs["dim"])
        return args[0].sort(-1)[0]

    out = replaying(net, {frozenset(): [graph]}, {name: sorted_instead})(x)["out"]
    assert calls == [-1]
    assert out.equal((net(x)["first"][0] * net.scale)[..., :3].sort(-1)[0])


class Centred(nn.Module):
    """Layers on the way, and a function that the toy rules know no exact cut of."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 8)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.layer_norm(self.first(x), (8,)))


def over_kept(kept: Tensor, x: Tensor, *_: Any, **__: Any) -> Tensor:
    part = x.index_select(-1, kept)
    return torch.zeros_like(x).index_copy(-1, kept, F.layer_norm(part, part.shape[-1:]))


def test_the_masked_original_calls_what_a_rule_gave(
    cut: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, toys: Any
) -> None:
    from prunecore.plugin import Channels, FunctionRule, Operation, Signal

    def calculate(channels: Channels, operation: Operation) -> Signal:
        x = operation.tensor
        channels.masked_function(channels.axis(x, 1), over_kept)
        return x

    def rewrite(arguments: Any, result: Signal, keep: Any) -> Any:
        (x, _), _ = arguments
        return (x, (keep.size(result, 1),)), {}

    rules = {**toys.functions, F.layer_norm: FunctionRule(calculate, rewrite)}
    monkeypatch.setattr(toys, "functions", rules)
    result = cut(Centred(), 3)
    (width,) = result.small.last.weight.shape[1:]
    assert width < 8
    assert f"F.layer_norm(self.first(x), ({width},))" in result.forward


def test_what_a_plugin_s_own_call_mixes_is_left_whole(
    find: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, toys: Any, toy: Any
) -> None:
    from prunecore.plugin import Channels, FunctionRule, Operation, Signal

    def calculate(channels: Channels, operation: Operation) -> Signal:
        channels.masked_function(channels.axis(operation.tensor, 1), over_kept)
        return operation.tensor

    def centre(channels: Channels, layer: Any, x: Signal) -> Any:
        return channels.apply(F.layer_norm, x, (8,))

    rules = {**toys.functions, F.layer_norm: FunctionRule(calculate)}
    monkeypatch.setattr(toys, "functions", rules)
    monkeypatch.setitem(toy._RULES, toy.Centre, centre)
    net = nn.Sequential(nn.Linear(3, 8), toy.Centre(), nn.Linear(8, 4))
    assert find(net, (2, 3)).left_whole == {"0": "a plugin calls a function that mixes it"}
