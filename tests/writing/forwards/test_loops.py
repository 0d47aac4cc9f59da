"""Repetitions of a forward as loops, and the classes of instances that differ in their number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

Forward = Callable[[Any, Tensor], Any]


def linears(count: int, width: int = 6) -> nn.ModuleList:
    return nn.ModuleList([nn.Linear(width, width) for _ in range(count)])


class Net(nn.Module):
    """Lists of layers between a first and a last one; what it does is given."""

    run: Forward

    def __init__(self, count: int = 3) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 6)
        self.layers = linears(count)
        self.norms = linears(count)
        self.pairs = nn.ModuleList(
            nn.ModuleDict({"a": nn.Linear(6, 6), "b": nn.Linear(6, 6)}) for _ in range(count)
        )
        self.named = nn.ModuleDict({name: nn.Linear(6, 6) for name in ("x", "y", "z")})
        self.numbered = nn.ModuleDict({str(number): nn.Linear(6, 6) for number in range(4)})
        self.shared = nn.Linear(6, 6)
        self.scale = nn.Parameter(torch.rand(6))
        self.last = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Any:
        return type(self).run(self, x)


def net(run: Forward, count: int = 3) -> nn.Module:
    model = type("Net", (Net,), {"run": run})(count)
    used: set[str] = set()
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_, name=name: used.add(name))
    model.eval()(torch.rand(2, 3))
    for module in model.modules():
        module._forward_hooks.clear()
    for name in list(model._modules):
        if not any(one == name or one.startswith(f"{name}.") for one in used):
            delattr(model, name)
    return model


def in_turn(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x)
    for layer in self.layers:
        x = layer(x)
    return self.last(x)


def in_turn_with_more(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x)
    for layer in self.layers:
        x = x + torch.relu(layer(x)) * self.scale
    return self.last(x)


def side_by_side(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x)
    for layer, norm in zip(self.layers, self.norms, strict=True):
        x = torch.relu(norm(layer(x)))
    return self.last(x)


def with_a_shared_layer(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x)
    for layer in self.layers:
        x = self.shared(layer(x))
    return self.last(x)


def beside_what_stays(self: Any, x: Tensor) -> Tensor:
    start = self.stem(x)
    x = torch.relu(start)
    for layer in self.layers:
        x = layer(x) + start
    return self.last(x + start)


def from_what_is_read_again(self: Any, x: Tensor) -> Tensor:
    start = self.stem(x)
    x = start
    for layer in self.layers:
        x = layer(x)
    return self.last(x + start)


def of_a_dictionary(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x)
    for layer in self.named.values():
        x = layer(x)
    return self.last(x)


def of_the_end_of_a_dictionary(self: Any, x: Tensor) -> Tensor:
    out = x = self.numbered["0"](self.stem(x))
    for name in ("1", "2", "3"):
        out = self.numbered[name](out)
    return self.last(out * x)


def and_the_first_again(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x)
    for layer in self.layers:
        x = layer(x)
    return self.last(self.layers[0](x))


def with_the_first_for_the_second(self: Any, x: Tensor) -> Tensor:
    x = self.layers[0](self.layers[0](self.stem(x)))
    return self.last(self.layers[2](x))


def of_parts(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x)
    for pair in self.pairs:
        x = pair["b"](torch.relu(pair["a"](x)))
    return self.last(x)


def with_the_last_by_itself(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x)
    for layer in self.layers[:-1]:
        x = torch.relu(layer(x))
    return self.last(self.layers[-1](x))


def gathering_what_all_return(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x)
    return self.last(sum_of([layer(x) for layer in self.layers]))


def sum_of(tensors: list[Tensor]) -> Tensor:
    return torch.stack(tensors).sum(0)


def gathering_on_the_way(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x)
    outputs = []
    for layer in self.layers:
        x = torch.relu(layer(x))
        outputs.append(x)
    return self.last(x + sum_of(outputs))


def returning_what_is_gathered(self: Any, x: Tensor) -> list[Tensor]:
    x = self.stem(x)
    return [layer(x) for layer in self.layers]


def returning_a_tuple(self: Any, x: Tensor) -> tuple[Tensor, ...]:
    return tuple(returning_what_is_gathered(self, x))


def with_two_states(self: Any, x: Tensor) -> Tensor:
    x = state = self.stem(x)
    state = torch.relu(state)
    for layer, norm in zip(self.layers, self.norms, strict=True):
        x = layer(x)
        state = state + norm(x)
    return self.last(state + x)


def swapping(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x)
    y = torch.relu(x)
    for layer in self.layers:
        x, y = y, layer(x)
    return self.last(x - y)


def crossing(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x)
    y = torch.relu(x)
    for layer, norm in zip(self.layers, self.norms, strict=True):
        x, y = layer(y), norm(x)
    return self.last(x - y)


def reading_an_early_turn(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x)
    first = None
    for layer in self.layers:
        x = layer(x)
        first = x if first is None else first
    return self.last(x + first)


def in_reverse(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x)
    for layer in reversed(self.layers):
        x = layer(x)
    return self.last(x)


def reading_each_by_itself(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x)
    a, b, c = (layer(x) for layer in self.layers)
    return self.last(torch.addcmul(a, b, c))


def with_other_numbers(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x)
    for number, layer in enumerate(self.layers):
        x = layer(x) * (number + 1.5)
    return self.last(x)


@pytest.mark.parametrize(
    ("run", "lines"),
    [
        (in_turn, ["for layer in self.layers:", "    x = layer(x)"]),
        (
            in_turn_with_more,
            ["for layer in self.layers:", "    x = x + torch.relu(layer(x)) * self.scale"],
        ),
        (
            side_by_side,
            [
                "for layer, norm in zip(self.layers, self.norms):",
                "    x = layer(x)",
                "    x = torch.relu(norm(x))",
            ],
        ),
        (
            with_a_shared_layer,
            ["for layer in self.layers:", "    x = layer(x)", "    x = self.shared(x)"],
        ),
        (beside_what_stays, ["for layer in self.layers:", "    x = layer(x) + start"]),
        (
            from_what_is_read_again,
            ["out = x", "for layer in self.layers:", "    out = layer(out)"],
        ),
        (of_a_dictionary, ["for layer in self.named.values():", "    x = layer(x)"]),
        (
            of_parts,
            ["for pair in self.pairs:", "    x = torch.relu(pair.a(x))", "    x = pair.b(x)"],
        ),
        (
            with_the_last_by_itself,
            [
                "for layer in self.layers[:3]:",
                "    x = torch.relu(layer(x))",
                "x = self.layers[3](x)",
            ],
        ),
        (
            and_the_first_again,
            ["for layer in self.layers:", "    x = layer(x)", "x = self.layers[0](x)"],
        ),
        (
            gathering_what_all_return,
            ["outputs = [layer(x) for layer in self.layers]"],
        ),
        (
            gathering_on_the_way,
            [
                "outputs = []",
                "for layer in self.layers:",
                "    x = torch.relu(layer(x))",
                "    outputs.append(x)",
            ],
        ),
        (
            returning_what_is_gathered,
            ["outputs = [layer(x) for layer in self.layers]", "return outputs"],
        ),
        (
            returning_a_tuple,
            ["outputs = [layer(x) for layer in self.layers]", "return tuple(outputs)"],
        ),
        (
            of_the_end_of_a_dictionary,
            [
                "for layer in list(self.numbered.values())[1:]:",
                "    out2 = layer(out2)",
            ],
        ),
        (
            with_two_states,
            [
                "for layer, norm in zip(self.layers, self.norms):",
                "    x = layer(x)",
                "    state = state + norm(x)",
            ],
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_repeats_is_a_loop(cut: Callable[..., Any], run: Forward, lines: list[str]) -> None:
    forward = cut(net(run, 4), 3).forward.splitlines()
    start = forward.index(lines[0])
    assert forward[start : start + len(lines)] == lines


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


class Paired(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = linears(2)

    def forward(self, x: Tensor) -> Pair:
        return Pair(self.layers[0](x), self.layers[1](x))


class Halves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.paired, self.last = nn.Linear(3, 6), Paired(), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        pair = self.paired(self.stem(x))
        return self.last(pair.first + pair.second)


def test_a_named_tuple_stays_one(cut: Callable[..., Any]) -> None:
    assert "return Pair(self.layers[0](x), self.layers[1](x))" in cut(Halves(), 3).text


@pytest.mark.parametrize(
    "run",
    [
        swapping,
        crossing,
        reading_an_early_turn,
        in_reverse,
        reading_each_by_itself,
        with_other_numbers,
        with_the_first_for_the_second,
    ],
)
def test_what_does_not_quite_repeat_is_written_out(cut: Callable[..., Any], run: Forward) -> None:
    result = cut(net(run, 3), 3)
    assert "for " not in result.forward
    assert "self.layers[2](" in result.forward


def test_literals_that_count_other_channels_are_written_out(cut: Callable[..., Any]) -> None:
    class Shaping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2)])

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x)
                x = x.view(-1, x.shape[1])
            return x

    cut(Shaping(), 6)


class Stage(nn.Module):
    """As many layers as it is told, one after the other."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.layers = linears(count)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


class Listed(nn.ModuleList):
    """A list that can be called."""

    def __init__(self, count: int) -> None:
        super().__init__(linears(count))
        self.scale = nn.Parameter(torch.rand(6))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = torch.relu(layer(x)) * self.scale
        return x


class Chained(nn.Sequential):
    """A chain that does more than a chain."""

    def __init__(self, count: int) -> None:
        super().__init__(*linears(count))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = x + layer(x)
        return x


class Keyed(nn.ModuleDict):
    """As in DenseNet: layers numbered from one."""

    def __init__(self, count: int) -> None:
        super().__init__({f"layer{n}": nn.Linear(6, 6) for n in range(1, count + 1)})

    def forward(self, x: Tensor) -> Tensor:
        outputs = [x]
        for layer in self.values():
            outputs.append(layer(torch.stack(outputs).sum(0)))
        return torch.stack(outputs).sum(0)


class Named(nn.ModuleDict):
    """Keys that follow no rule, for some instances others than for some."""

    def __init__(self, *names: str) -> None:
        super().__init__({name: nn.Linear(6, 6) for name in names})

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.values():
            x = torch.relu(layer(x))
        return x


@pytest.mark.parametrize(
    ("blocks", "lines"),
    [
        (
            [Stage(2), Stage(3)],
            [
                "class Stage(nn.Module):",
                "    def __init__(self, *layers: nn.Module) -> None:",
                "        super().__init__()",
                "        self.layers = nn.ModuleList(layers)",
            ],
        ),
        (
            [Listed(2), Listed(3)],
            [
                "class Listed(nn.ModuleList):",
                "    def __init__(self, *layers: nn.Module) -> None:",
                "        super().__init__(layers)",
                "        self.scale = nn.Parameter(torch.rand(6))",
            ],
        ),
        (
            [Chained(2), Chained(4)],
            [
                "class Chained(nn.Sequential):",
                "    def __init__(self, *layers: nn.Module) -> None:",
                "        super().__init__(*layers)",
            ],
        ),
        (
            [Keyed(2), Keyed(3)],
            [
                "class Keyed(nn.ModuleDict):",
                "    def __init__(self, *layers: nn.Module) -> None:",
                "        super().__init__(",
                '            {f"layer{number}": layer for number, layer in enumerate(layers, 1)}',
                "        )",
            ],
        ),
        (
            [Named("a", "b"), Named("c", "d", "e")],
            [
                "class Named(nn.ModuleDict):",
                "    def __init__(self, layers: dict[str, nn.Module]) -> None:",
                "        super().__init__(layers)",
            ],
        ),
        (
            [Named("a", "b"), Named("a", "b")],
            [
                "class Named(nn.ModuleDict):",
                "    def __init__(self) -> None:",
                '        super().__init__({"a": nn.Linear(6, 6), "b": nn.Linear(6, 6)})',
            ],
        ),
    ],
    ids=["list", "own list", "chain", "numbered", "others", "the same"],
)
def test_instances_of_any_length_are_of_one_class(
    cut: Callable[..., Any],
    check_style: Callable[..., None],
    blocks: list[nn.Module],
    lines: list[str],
) -> None:
    result = cut(nn.Sequential(nn.Linear(3, 6), *blocks, nn.Linear(6, 2)), 3, share=0)
    text = result.text.splitlines()
    start = text.index(lines[0])
    assert text[start : start + len(lines)] == lines
    assert sum(line.startswith("class ") for line in text) == 2
    base = next(cls for cls in type(blocks[0]).__mro__ if cls.__module__.startswith("torch"))
    assert isinstance(result.small[1], base)
    check_style([result.text])


def test_what_a_turn_reads_after_it_has_handed_on_keeps_its_variable(
    cut: Callable[..., Any],
) -> None:
    class Turns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 6)
            self.norms = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
            self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
            self.last = nn.Linear(18, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            outs = []
            for norm, layer in zip(self.norms, self.layers, strict=True):
                inner = norm(x)
                x = layer(inner)
                outs.append(torch.relu(inner) + x)
            return self.last(torch.cat(outs, 1))

    assert "for norm, layer in zip(self.norms, self.layers):" in cut(Turns(), 3).forward
