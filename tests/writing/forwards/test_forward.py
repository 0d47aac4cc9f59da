"""Forwards as they are written: the same values in the same order, as a person would write them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunecore.channels.keep import Keep
from prunecore.plugins.builtin import prunecore_functions
from prunecore.writing.forwards.branch_writer import write_forward
from prunecore.writing.passes.variants import unify
from prunecore.writing.text import one_line


class Net(nn.Module):
    """Three layers of one width, and a function of them and the input."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.a = nn.Linear(3, 6)
        self.b = nn.Linear(6, 6)
        self.c = nn.Linear(6, 6)
        self.relu = nn.ReLU(inplace=True)
        self.last = nn.Linear(6, 2)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def residual(net: Any, x: Tensor) -> Tensor:
    x = net.relu(net.a(x))
    out = net.relu(net.b(x))
    out = net.c(out)
    return net.last(net.relu(out + x))


def inplace_after_branch(net: Any, x: Tensor) -> Tensor:
    """The branch reads what the activation overwrites, after it did."""
    x = net.a(x)
    identity = x
    x = F.relu(x, inplace=True)
    return net.last(net.b(x) + identity)


def inplace_method(net: Any, x: Tensor) -> Tensor:
    out = net.a(x)
    doubled = out * 2
    out.add_(1)
    return net.last(doubled + out)


def inplace_before_use(net: Any, x: Tensor) -> Tensor:
    """Written the other way round, the product would see the sum."""
    out = net.a(x)
    product = out * out
    changed = out.mul_(3)
    return net.last(changed - product)


def inplace_result_not_used(net: Any, x: Tensor) -> Tensor:
    out = net.a(x)
    out.clamp_(min=0)
    return net.last(net.b(out) + out)


def inplace_operator(net: Any, x: Tensor) -> Tensor:
    out = net.a(x)
    identity = out
    out = net.b(out)
    out += identity
    out *= 2
    out -= identity
    out /= 3
    return net.last(out)


def order_of_layers(net: Any, x: Tensor) -> Tensor:
    """The second operand is computed first."""
    a = net.a(x)
    c = net.c(a)
    b = net.b(a)
    return net.last(b - c)


def order_of_arguments(net: Any, x: Tensor) -> Tensor:
    a = net.a(x)
    c, b = net.c(a), net.b(a)
    return net.last(torch.sub(b, c))


def sum_of_layers(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    return net.last(sum([net.b(x), net.c(x), x]))


def used_three_times(net: Any, x: Tensor) -> Tensor:
    a = net.a(x)
    return net.last(a + net.b(a) * net.c(a))


def variable_ends_while_another_begins(net: Any, x: Tensor) -> Tensor:
    a = net.a(x)
    b = net.b(a)
    c = net.c(a)
    d = net.b(b)
    return net.last(c + d + b)


def swapped(net: Any, x: Tensor) -> Tensor:
    a, b = net.a(x), net.b(net.a(x))
    a, b = b * 2, a - 1
    return net.last(a / (b**2 + 1))


def the_input_used_late(net: Any, x: Tensor) -> Tensor:
    out = net.last(net.b(net.a(x)))
    return out + x[:, :2]


def a_layer_called_twice(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    return net.last(net.b(net.relu(net.b(x))) + x)


def the_same_tensor_twice(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    return net.last(torch.addcmul(x, x, x))


def many_lines(net: Any, x: Tensor) -> Tensor:
    a = torch.sigmoid(torch.clamp(torch.tanh(torch.exp(torch.sin(net.a(x)))), min=-0.25, max=0.75))
    return net.last(torch.addcmul(torch.cos(torch.sin(a)), torch.tanh(a), a, value=0.123456789))


def deep(net: Any, x: Tensor) -> Tensor:
    out = net.a(x)
    for _ in range(7):
        out = torch.sin(out)
    return net.last(out)


def loop(net: Any, x: Tensor) -> Tensor:
    outs = [net.a(x)]
    for layer in (net.b, net.c):
        outs.append(layer(outs[-1]))
    return net.last(sum(outs))


def sizes(net: Any, x: Tensor) -> Tensor:
    out = net.a(x)
    n, c = out.shape
    return net.last(out.view(n, c, 1).view(n, c // 1)) + n * 0


def size_arithmetic(net: Any, x: Tensor) -> Tensor:
    out = net.a(x)
    half = (out.size(0) + 1) // 2
    return net.last(out * (half + 1 - half) - (out.dim() - 2))


def numbers(net: Any, x: Tensor) -> Tensor:
    return net.last(net.a(x) * math.sqrt(2) - 1e-12 + 1e9 * 0 + -0.5)


def infinities(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    return net.last(x.masked_fill(x > 0, float("-inf")).clamp(-1, float("inf")))


def unused(net: Any, x: Tensor) -> Tensor:
    out = net.a(x)
    net.b(out) * 2
    return net.last(out)


def training_flag(net: Any, x: Tensor) -> Tensor:
    x = F.dropout(net.a(x), p=0.4, training=net.training)
    return net.last(F.dropout(x, 0.3, net.training))


def branches(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    joined = torch.cat([torch.sigmoid(net.b(x)) * 0.123456789, torch.relu(net.c(x)) * x], 0)
    return net.last(joined)


def parts_of_one(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    parts = [torch.tanh(x) * 0.25 + shift for shift in (0.123456789, 0.5, 0.75)]
    return net.last(net.b(torch.stack(parts).sum(0)))


def nested_concatenations(net: Any, x: Tensor) -> Tensor:
    """The inner one must not take over what the outer one's other part still reads."""
    x = net.a(x)
    b = net.b(x)
    inner = torch.cat([torch.sigmoid(b) * 0.123456789, torch.tanh(b) * 0.123456789], 0)
    return net.last(torch.cat([inner, net.c(x), torch.relu(x) * 0.123456789, x - b], 0))


def a_part_used_again(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    b, c = net.b(x), torch.sin(x) * 0.123456789
    joined = torch.cat([b, c, torch.cos(x) * 0.123456789], 0)
    return net.last(torch.cat([joined, c + net.c(c), b * x], 0))


CASES = [
    residual,
    inplace_after_branch,
    inplace_method,
    inplace_before_use,
    inplace_result_not_used,
    inplace_operator,
    order_of_layers,
    order_of_arguments,
    sum_of_layers,
    used_three_times,
    variable_ends_while_another_begins,
    swapped,
    the_input_used_late,
    a_layer_called_twice,
    the_same_tensor_twice,
    many_lines,
    deep,
    loop,
    sizes,
    size_arithmetic,
    numbers,
    infinities,
    unused,
    training_flag,
    branches,
    parts_of_one,
    nested_concatenations,
    a_part_used_again,
]


@pytest.mark.parametrize("function", CASES, ids=lambda function: function.__name__)
def test_a_written_forward_computes_the_same(
    cut: Callable[..., Any], function: Callable[..., Any]
) -> None:
    for seed in range(2):
        result = cut(Net(function), 3, seed=seed)
        assert max(map(len, result.text.splitlines())) <= 88


def test_written_forwards_are_formatted_as_ruff_does(
    cut: Callable[..., Any], check_style: Callable[..., None]
) -> None:
    check_style(cut(Net(function), 3).text for function in CASES)


# Operators: the expression of a forward must be written with the brackets that it needs, no more.
@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda a, b: (a + b) * a, "(a + b) * a"),
        (lambda a, b: a + b * a, "a + b * a"),
        (lambda a, b: a - (b - a), "a - (b - a)"),
        (lambda a, b: a - b - a, "a - b - a"),
        (lambda a, b: a / (b * a), "a / (b * a)"),
        (lambda a, b: a / b * a, "a / b * a"),
        (lambda a, b: -a * b, "-a * b"),
        (lambda a, b: -(a * b), "-(a * b)"),
        (lambda a, b: (-a) ** 2 + b, "(-a) ** 2 + b"),
        (lambda a, b: -(a**2) + b, "-(a**2) + b"),
        (lambda a, b: (a**2) ** b, "(a**2) ** b"),
        (lambda a, b: a ** (b**2), "a ** (b**2)"),
        (lambda a, b: a ** (-b), "a ** (-b)"),
        (lambda a, b: a**-2 + b, "a**-2 + b"),
        (lambda a, b: a**0.5 + b, "a**0.5 + b"),
        (lambda a, b: a[:, :1] ** 2 + b, "a[:, :1] ** 2 + b"),
        (lambda a, b: a.exp() ** b, "a.exp() ** b"),
        (lambda a, b: 2**a + b, "2**a + b"),
        (lambda a, b: a - -2 * b, "a - -2 * b"),
        (lambda a, b: b * 0.5 + -2 + a, "b * 0.5 - 2 + a"),
        (lambda a, b: a + -2, "a + -2"),
        (lambda a, b: (a > 0.5) + -1, "(a > 0.5) + -1"),  # torch subtracts nothing from a mask
        (lambda a, b: a * 0.5 + (0.485 - 0.5) / 0.5, "a * 0.5 - 0.03"),
        (lambda a, b: a * (0.1 + 0.2) + 1 / 3, "a * 0.3 + 0.3333333333333333"),
        (lambda a, b: (a > 0) & (b > 0), "(a > 0) & (b > 0)"),
        (lambda a, b: ((a > 0) | (b > 0)) ^ (a < b), "((a > 0) | (b > 0)) ^ (a < b)"),
        (lambda a, b: (a > 0) | (b > 0) & (a < b), "(a > 0) | (b > 0) & (a < b)"),
        (lambda a, b: ~(a > b), "~(a > b)"),
        (lambda a, b: (a == b) != (a >= b), "(a == b) != (a >= b)"),
        (lambda a, b: (a + b).relu(), "(a + b).relu()"),
        (lambda a, b: (-a).exp() + b, "(-a).exp() + b"),
        (lambda a, b: (a + b)[:, None], "(a + b)[:, None]"),
        (lambda a, b: a % 2 // b, "a % 2 // b"),
        (lambda a, b: 2 - a + b, "2 - a + b"),
        (lambda a, b: sum([a > b]), "0 + (a > b)"),  # 0 makes numbers of a mask
        (lambda a, b: a[..., -1:] + b[:, 1::2], "a[..., -1:] + b[:, 1::2]"),
        (lambda a, b: torch.special.xlogy(a, b), "torch.special.xlogy(a, b)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_operators_have_the_brackets_that_they_need(
    function: Callable[..., Any], text: str, find: Callable[..., Any]
) -> None:
    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Any:
            return function(a, b)

    a, b = torch.rand(3, 4) + 0.5, torch.rand(3, 4) + 0.5
    written = written_expression(find, Two(), (3, 4), (3, 4))
    actual = eval(written, {"a": a, "b": b, "torch": torch})
    torch.testing.assert_close(actual, function(a, b), rtol=0, atol=0)
    assert written == text


def written_expression(find: Callable[..., Any], model: nn.Module, *shapes: Any) -> str:
    """What the one `return` statement of a network's forward returns."""
    found = find(model, *shapes)
    keep = Keep(model, found, found.removable)
    forward = write_forward(unify(found.forwards.traces)[""], keep, prunecore_functions(), {})
    (statement,) = forward.statements
    assert statement.target == "return "
    return one_line(statement.value)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (
            residual,
            """\
x = self.relu(self.a(x))
out = self.relu(self.b(x))
out = self.relu(self.c(out) + x)
return self.last(out)""",
        ),
        (
            inplace_method,
            """\
out = self.a(x)
doubled = out * 2
out.add_(1)
return self.last(doubled + out)""",
        ),
        (
            sum_of_layers,
            """\
x = self.a(x)
x = self.b(x) + self.c(x) + x
return self.last(x)""",
        ),
        (
            inplace_before_use,
            """\
out = self.a(x)
product = out * out
changed = out.mul_(3)
return self.last(changed - product)""",
        ),
        (
            order_of_layers,
            """\
a = self.a(x)
c = self.c(a)
b = self.b(a)
return self.last(b - c)""",
        ),
        (
            branches,
            """\
x = self.a(x)
b = torch.sigmoid(self.b(x)) * 0.123456789
c = torch.relu(self.c(x)) * x
joined = torch.cat([b, c], 0)
return self.last(joined)""",
        ),
        (
            parts_of_one,
            """\
x = self.a(x)
x1 = torch.tanh(x) * 0.25 + 0.123456789
x2 = torch.tanh(x) * 0.25 + 0.5
x3 = torch.tanh(x) * 0.25 + 0.75
x = torch.stack([x1, x2, x3]).sum(0)
x = self.b(x)
return self.last(x)""",
        ),
        (
            training_flag,
            """\
x = F.dropout(self.a(x), p=0.4, training=self.training)
x = F.dropout(x, p=0.3, training=self.training)
return self.last(x)""",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_forward_reads_as_a_person_would_write_it(
    cut: Callable[..., Any], function: Callable[..., Any], text: str
) -> None:
    assert cut(Net(function), 3).forward == text


# What a forward returns


def _tuple(net: Any, x: Tensor) -> Any:
    x = net.a(x)
    return net.last(x), x


def _nested(net: Any, x: Tensor) -> Any:
    x = net.a(x)
    return net.last(x), [x, (net.b(x),)]


def _dict(net: Any, x: Tensor) -> Any:
    x = net.a(x)
    return {"out": net.last(net.b(x)), "features": x}


@pytest.mark.parametrize(
    ("function", "returns", "whole"),
    [
        (_tuple, "tuple[Tensor, Tensor]", {"a"}),
        (_nested, "tuple[Tensor, list", {"a", "b"}),
        (_dict, "dict[str, Tensor]", {"a"}),
    ],
)
def test_all_that_a_network_returns_stays_whole(
    cut: Callable[..., Any], function: Callable[..., Any], returns: str, whole: set[str]
) -> None:
    result = cut(Net(function), 3)
    assert f"-> {returns}" in result.text
    for layer in whole:
        index = result.dependencies.layers[layer]
        assert not result.dependencies.removable[result.dependencies.axes[index]].any()


def test_a_block_that_returns_a_tuple_is_taken_apart(cut: Callable[..., Any]) -> None:
    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = nn.Linear(3, 5)
            self.right = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.left(x), self.right(x)

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.split = Split()
            self.a = nn.Linear(5, 2)
            self.b = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            left, right = self.split(x)
            return self.a(left) + self.b(right)

    result = cut(Pair(), 3)
    assert "def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:" in result.text
    assert result.small.split.left.out_features < 5


def test_a_block_that_takes_and_returns_a_dictionary(cut: Callable[..., Any]) -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"a": self.a(x), "x": x}

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = Heads()
            self.last = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.heads(x)["a"])

    assert cut(Outer(), 3).forward == 'heads = self.heads(x)\nreturn self.last(heads["a"])'


def test_what_is_taken_of_a_dictionary_is_called_by_its_key(cut: Callable[..., Any]) -> None:
    class Levels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"high": self.a(x), "low": x}

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.levels = nn.ModuleDict({"1": Levels()})
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            levels = self.levels["1"](x)
            high = levels["high"]
            return self.last(high + self.first(high)) + levels["low"].sum()

    forward = cut(Outer(), 3).forward
    assert forward.splitlines()[:2] == [
        'levels = self.levels["1"](x)',
        'high = levels["high"]',
    ]


def test_optional_arguments_keep_their_defaults(cut: Callable[..., Any]) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 4)

        def forward(self, x: Tensor, scale: float = 2.0, other: Tensor | None = None) -> Tensor:
            x = self.a(x) * scale
            return x if other is None else x + other

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = Block()
            self.last = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.one(x))

    result = cut(Outer(), 3)
    assert "def forward(self, x: Tensor) -> Tensor:" in result.text


def test_an_input_whose_name_tells_what_it_is_keeps_it(cut: Callable[..., Any]) -> None:
    class Image(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, image: Tensor) -> Tensor:
            image = self.first(image)
            return self.last(torch.relu(image) + image)

    assert cut(Image(), 3).forward.startswith("image = self.first(image)\n")


@pytest.mark.parametrize("scale", [None, 2.0])
def test_an_optional_tensor_that_is_given_is_required(
    cut: Callable[..., Any], scale: float | None
) -> None:
    """Unless something before it has a default."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 4)

        def forward(self, x: Tensor, scale: float = 1.0, gate: Tensor | None = None) -> Tensor:
            x = self.a(x) * scale
            return x if gate is None else x * gate

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gated = Gated()
            self.gate, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            gate = torch.sigmoid(self.gate(x))
            given = {} if scale is None else {"scale": scale}
            return self.last(self.gated(x, gate=gate, **given))

    text = cut(Outer(), 3).text
    if scale is None:
        assert "def forward(self, x: Tensor, gate: Tensor) -> Tensor:" in text
    else:
        assert "gate: Tensor | None = None" in text


def test_names_of_variables_do_not_hide_what_the_forward_needs(cut: Callable[..., Any]) -> None:
    class Hiding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.torch = nn.Linear(3, 4)
            self.F = nn.Linear(4, 4)
            self.nn = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
            self.out = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
            self.last = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            a = self.torch(x)
            b = self.F(a)
            c = self.nn(a)
            d = self.out(c)
            return self.last(torch.cat([F.relu(a) * b, c * d, torch.sin(a)], 0))

    cut(Hiding(), 3)


def test_a_long_expression_for_a_variable_of_a_long_name_is_broken(
    cut: Callable[..., Any], check_style: Callable[..., None]
) -> None:
    class Applied(nn.Module):
        def forward(self, condition: Tensor) -> Tensor:
            out = condition.sigmoid() * (condition[..., None].squeeze(-1) * 0.25 + 2) + 0.5
            return out.view(out.shape)

    model = nn.Sequential(nn.Linear(3, 6), Applied(), nn.Linear(6, 2))
    check_style([cut(model, 3).text])
