"""Written classes: one for all instances that are alike, with arguments for what differs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def class_text(text: str, name: str) -> str:
    """The text of one class of a file."""
    start = text.index(f"class {name}(")
    return text[start:].split("\n\n\n")[0] + "\n"


def classes(text: str) -> list[str]:
    return re.findall(r"^class (\w+)\(", text, re.MULTILINE)


class Block(nn.Module):
    """Two layers whose inner width is their own."""

    def __init__(self, inputs: int, inner: int, outputs: int, act: Any = None) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, inner)
        self.act = act or nn.ReLU()
        self.second = nn.Linear(inner, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.act(self.first(x)))


class Residual(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, inner)
        self.second = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) + x


def test_a_block_has_arguments_named_after_what_they_count(cut: Callable[..., Any]) -> None:
    model = nn.Sequential(Block(3, 6, 8), Block(8, 7, 9), nn.Linear(9, 2))
    text = cut(model, 3, share=0).text
    assert class_text(text, "Block") == (
        "class Block(nn.Module):\n"
        "    def __init__(self, in_channels: int, width: int, out_channels: int) -> None:\n"
        "        super().__init__()\n"
        "        self.first = nn.Linear(in_channels, width)\n"
        "        self.act = nn.ReLU()\n"
        "        self.second = nn.Linear(width, out_channels)\n"
        "\n"
        "    def forward(self, x: Tensor) -> Tensor:\n"
        "        x = self.act(self.first(x))\n"
        "        return self.second(x)\n"
    )
    assert "Block(3, 6, 8), Block(8, 7, 9)" in text


def test_a_residual_block_takes_one_argument_for_its_ends(cut: Callable[..., Any]) -> None:
    layers = nn.Linear(3, 8), Residual(8, 5), nn.Linear(8, 9), Residual(9, 6), nn.Linear(9, 2)
    model = nn.Sequential(*layers)
    text = class_text(cut(model, 3, share=0).text, "Residual")
    assert "def __init__(self, channels: int, width: int) -> None:" in text


def test_several_inner_widths_are_told_apart_by_their_layers(cut: Callable[..., Any]) -> None:
    class Deep(nn.Module):
        def __init__(self, inputs: int, inner: int, outputs: int) -> None:
            super().__init__()
            self.a = nn.Linear(inputs, inner)
            self.b = nn.Linear(inner, inner)
            self.c = nn.Linear(inner, outputs)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.b(self.a(x)))

    text = class_text(
        cut(nn.Sequential(Deep(3, 6, 8), Deep(8, 7, 5), nn.Linear(5, 2)), 3, share=0).text, "Deep"
    )
    names = re.findall(r"(\w+): int", text)
    assert names == ["in_channels", "a_width", "b_width", "out_channels"]


def test_what_is_the_same_in_all_instances_is_written_into_the_class(
    cut: Callable[..., Any],
) -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mixed = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.mixed(x.softmax(1)).softmax(1)

    text = cut(nn.Sequential(nn.Linear(3, 4), Fixed(), Fixed(), nn.Linear(4, 2)), 3).text
    assert text.count("Fixed(),") == 2


def test_an_option_with_a_default_becomes_an_argument_with_it(cut: Callable[..., Any]) -> None:
    class Conv(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.conv(x))

    model = nn.Sequential(Conv(3, 6, 1), Conv(6, 8, 2), Conv(8, 4, 1), nn.Conv2d(4, 2, 1))
    text = cut(model, 3, 4, 4).text
    assert "def __init__(self, in_channels: int, out_channels: int, stride: int = 1)" in text
    assert "self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1)" in text
    assert len(re.findall(r"Conv\(\d+, \d+, stride=2\)", text)) == 1
    assert len(re.findall(r"Conv\(\d+, \d+\)", text)) == 2


def test_a_number_in_the_forward_becomes_an_attribute(cut: Callable[..., Any]) -> None:
    class Shaped(nn.Module):
        """A shape that the forward spells out, with a width in it."""

        def __init__(self, width: int) -> None:
            super().__init__()
            self.linear = nn.Linear(3, width)
            self.width = width

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x).view(-1, self.width)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = Shaped(6), Shaped(9)
            self.last = nn.Linear(15, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.cat([self.a(x), self.b(x)], 1))

    text = class_text(cut(Net(), 3, share=0).text, "Shaped")
    assert "def __init__(self, out_channels: int) -> None:" in text
    assert "self.out_channels = out_channels" in text
    assert ".view(-1, self.out_channels)" in text


class Scaled(nn.Module):
    """A number that the forward reads off the module, and one that it computes of it."""

    def __init__(self, factor: Any, doubled: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.factor = factor
        self.doubled = doubled

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * (self.factor * 2 if self.doubled else self.factor)


@pytest.mark.parametrize(("second", "kind"), [(3.0, "float"), (3, "float | int")])
def test_a_number_that_the_module_holds_is_an_argument_where_it_differs(
    cut: Callable[..., Any], second: Any, kind: str
) -> None:
    model = nn.Sequential(Scaled(2.0), Scaled(2.0), Scaled(second), nn.Linear(3, 2))
    result = cut(model, 3)
    text = class_text(result.text, "Scaled")
    assert classes(result.text) == ["Scaled", "Net"]
    assert f"factor: {kind}" in text
    assert "self.factor = factor" in text
    assert "return self.linear(x) * self.factor" in text
    assert result.small[2].factor == 3


def test_a_number_that_the_module_holds_keeps_its_name(cut: Callable[..., Any]) -> None:
    result = cut(nn.Sequential(Scaled(0.0625), nn.Linear(3, 2)), 3)
    assert "self.factor = 0.0625" in class_text(result.text, "Scaled")
    assert "* self.factor" in class_text(result.text, "Scaled")


def test_other_computed_numbers_in_the_forward_make_another_class(cut: Callable[..., Any]) -> None:
    model = nn.Sequential(Scaled(2.0, True), Scaled(2.0, True), Scaled(3.0, True), nn.Linear(3, 2))
    text = cut(model, 3).text
    assert classes(text) == ["Scaled", "Scaled2", "Net"]
    assert "* 4.0" in class_text(text, "Scaled")
    assert "* 6.0" in class_text(text, "Scaled2")


class DropPath(nn.Module):
    """Drops all of an example in training, as stochastic depth does."""

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        if not self.training:
            return x
        keep_prob = 1 - self.drop_prob
        kept = x.new_empty((x.shape[0], 1)).bernoulli_(keep_prob)
        kept.div_(keep_prob)
        return x * kept


def test_fractions_that_functions_are_given_are_one_argument(cut: Callable[..., Any]) -> None:
    model = nn.Sequential(DropPath(0.1), DropPath(0.2), DropPath(0.3), nn.Linear(3, 2))
    result = cut(model, 3)
    assert classes(result.text) == ["DropPath", "Net"]
    text = class_text(result.text, "DropPath")
    assert "keep_prob: float" in text
    assert "bernoulli_(self.keep_prob)" in text
    assert "div_(self.keep_prob)" in text
    assert [result.small[place].keep_prob for place in range(3)] == [0.9, 0.8, 0.7]


def test_a_whole_number_that_the_module_holds(cut: Callable[..., Any]) -> None:
    """As it stands where it shapes a tensor, as a kept width where it counts channels."""

    class Shaped(nn.Module):
        def __init__(self, rows: int, width: int) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(8, width), nn.Linear(width, 8)
            self.rows, self.width = rows, width

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x).view(-1, self.rows, self.width)
            return self.last(x**self.rows).view(-1, 8)

    model = nn.Sequential(nn.Linear(3, 8), Shaped(1, 6), Shaped(1, 9), nn.Linear(8, 2))
    result = cut(model, 3, seed=1)
    text = class_text(result.text, "Shaped")
    assert classes(result.text) == ["Shaped", "Net"]
    assert "self.rows = 1" in text
    assert "x = self.first(x).view(-1, self.rows, self.width)" in text
    assert "self.last(x**self.rows)" in text


def test_a_stored_width_does_not_take_the_name_of_an_attribute(cut: Callable[..., Any]) -> None:
    class Named(nn.Module):
        def __init__(self, inner: int) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(8, inner), nn.Linear(inner, 8)
            self.width = 0.5

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x).view(-1, self.first.out_features)) * self.width

    model = nn.Sequential(nn.Linear(3, 8), Named(6), Named(9), nn.Linear(8, 2))
    text = class_text(cut(model, 3, seed=1).text, "Named")
    assert "self.width = 0.5" in text
    assert "view(-1, self.width2)" in text


def test_a_width_in_an_operand_becomes_an_argument_too(cut: Callable[..., Any]) -> None:
    class Tokens(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(8, width), nn.Linear(width, 8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x).view(-1, 1, self.first.out_features).transpose(0, 1).squeeze(0)
            return self.last(x.view(-1, self.first.out_features) * 2)

    model = nn.Sequential(nn.Linear(3, 8), Tokens(6), Tokens(9), nn.Linear(8, 2))
    text = cut(model, 3, seed=1).text
    assert classes(text) == ["Tokens", "Net"]
    assert (
        "        x = self.first(x).view(-1, 1, self.width)\n"
        "        x = x.transpose(0, 1).squeeze(0).view(-1, self.width)\n"
        "        return self.last(x * 2)"
    ) in class_text(text, "Tokens")


def test_a_child_of_another_kind_is_an_argument(cut: Callable[..., Any]) -> None:
    model = nn.Sequential(Block(3, 6, 8), Block(8, 7, 9, nn.Dropout(0.1)), nn.Linear(9, 2))
    text = cut(model, 3).text
    assert classes(text) == ["Block", "Net"]
    assert "act: nn.Module" in class_text(text, "Block")
    assert "act=nn.Dropout(p=0.1)" in text


def test_an_argument_does_not_hide_what_the_file_imports(cut: Callable[..., Any]) -> None:
    class Hiding(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.nn = layer
            self.last = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.nn(x))

    model = nn.Sequential(Hiding(nn.ReLU()), Hiding(nn.Tanh()), nn.Linear(3, 2))
    assert "self.nn = nn2" in class_text(cut(model, 3).text, "Hiding")


class Expanding(nn.Module):
    """A branch that some instances begin with another layer."""

    def __init__(self, inner: int, expand: bool) -> None:
        super().__init__()
        layers = [nn.Linear(8, inner), nn.ReLU()] if expand else []
        self.branch = nn.Sequential(
            *layers, nn.Linear(inner if expand else 8, inner), nn.ReLU(), nn.Linear(inner, 8)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def expanding(*expand: bool) -> nn.Module:
    blocks = [Expanding(9 + number, one) for number, one in enumerate(expand)]
    return nn.Sequential(nn.Linear(3, 8), *blocks, nn.Linear(8, 2))


def test_instances_with_other_children_are_classes_of_their_own_where_that_is_shorter(
    cut: Callable[..., Any],
) -> None:
    text = cut(expanding(True, True, False, True, False, True, False), 3).text
    assert classes(text) == ["Expanding", "Expanding2", "Net"]
    assert text.count("nn.Sequential(") == 2
    few = cut(expanding(True, False), 3).text
    assert classes(few) == ["Expanding", "Net"]
    assert "branch: nn.Module" in few


def test_a_child_that_some_instances_lack_may_be_none(cut: Callable[..., Any]) -> None:
    class Maybe(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
            self.down = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

        def forward(self, x: Tensor) -> Tensor:
            identity = x if self.down is None else self.down(x)
            return self.conv(x) + identity

    model = nn.Sequential(Maybe(3, 6), Maybe(6, 6), Maybe(6, 8), nn.Conv2d(8, 2, 1))
    text = cut(model, 3, 4, 4).text
    assert classes(text) == ["Maybe", "Net"]
    assert "down: nn.Module | None = None" in text
    assert "x if self.down is None else self.down(x)" in text


def test_two_classes_of_one_name_are_numbered(cut: Callable[..., Any]) -> None:
    def made(sign: int) -> nn.Module:
        class Same(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.linear = nn.Linear(3, 3)

            def forward(self, x: Tensor) -> Tensor:
                return self.linear(x) + 1 if sign > 0 else self.linear(x) - 1

        return Same()

    text = cut(nn.Sequential(made(1), made(-1), nn.Linear(3, 2)), 3).text
    assert classes(text) == ["Same", "Same2", "Net"]


@pytest.mark.parametrize("name", ["Tensor", "nn", "F", "torch", "math", "net", "Scale"])
def test_a_class_gives_way_to_a_name_that_the_file_needs(
    cut: Callable[..., Any], toy: Any, name: str
) -> None:
    cls = type(name, (Block,), {"forward": lambda self, x: F.relu(Block.forward(self, x))})
    model = nn.Sequential(nn.Linear(3, 4), toy.Scale(4), cls(4, 5, 6), nn.Linear(6, 2))
    assert f"{name}2" in classes(cut(model, 3).text)


def test_the_network_may_be_called_as_its_block(cut: Callable[..., Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = type("Net", (Block,), {})(3, 5, 6)
            self.last = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.inner(x))

    assert classes(cut(Net(), 3).text) == ["Net", "Net2"]


def test_blocks_within_blocks_are_written_inner_first(cut: Callable[..., Any]) -> None:
    class Outer(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.a = Block(inputs, 5, 6)
            self.b = nn.Sequential(Block(6, 4, outputs), nn.ReLU())

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x))

    text = cut(nn.Sequential(Outer(3, 7), Outer(7, 8), nn.Linear(8, 2)), 3).text
    assert classes(text) == ["Block", "Outer", "Net"]


def test_classes_stand_in_the_order_in_which_they_are_held(cut: Callable[..., Any]) -> None:
    """In each process: names are hashed in another one by each."""

    class Outer(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner, self.last = inner, nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.inner(x))

    def forward(block: Any, x: Tensor) -> Tensor:
        return block.inner(x)  # type: ignore[no-any-return]

    names = [f"Inner{letter}" for letter in "HCAFBEGD"]
    blocks = [type(name, (nn.Module,), {"forward": forward})() for name in names]
    for block in blocks:
        block.inner = nn.Linear(4, 4)
    written = classes(cut(nn.Sequential(*map(Outer, blocks)), 4).text)
    assert [name for name in written if name in names] == names


def test_a_class_whose_instances_hold_one_of_it(cut: Callable[..., Any]) -> None:
    class Nested(nn.Module):
        def __init__(self, depth: int) -> None:
            super().__init__()
            self.inner = Nested(depth - 1) if depth else nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x).relu()

    cut(nn.Sequential(Nested(2), Nested(0), nn.Linear(3, 2)), 3)


def test_a_module_that_only_holds_others(cut: Callable[..., Any]) -> None:
    class Branches(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.left = nn.Linear(3, width)
            self.right = nn.Linear(3, width)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branches = Branches(6)
            self.last = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.branches.left(x) + self.branches.right(x))

    result = cut(Net(), 3)
    assert "self.branches.left(x) + self.branches.right(x)" in result.forward
    assert "def forward" not in class_text(result.text, "Branches")


def test_a_loop_over_a_list_of_modules(cut: Callable[..., Any]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(3, 8)
            self.blocks = nn.ModuleList([Residual(8, 5), Residual(8, 6)])
            self.last = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for block in self.blocks:
                x = block(x)
            return self.last(x)

    result = cut(Net(), 3)
    assert result.forward.splitlines() == [
        "x = self.stem(x)",
        "for block in self.blocks:",
        "    x = block(x)",
        "return self.last(x)",
    ]
    assert result.text.count("Residual(") == 3


def test_a_users_container_is_a_class_of_its_own(cut: Callable[..., Any]) -> None:
    class Chain(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            for layer in self:
                x = layer(x) * 2
            return x

    result = cut(Chain(nn.Linear(3, 6), nn.Linear(6, 5), nn.Linear(5, 2)), 3)
    assert list(result.small.state_dict()) == list(result.model.state_dict())


class ConvNorm(nn.Sequential):
    """A container that the toy plugin owns as `nn.Sequential`."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, *last: nn.Module) -> None:
        conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
        super().__init__(conv, nn.BatchNorm2d(outputs), *last)


def chain(*blocks: nn.Module) -> nn.Sequential:
    """A network of these blocks, of 6 channels each, with a layer that fixes its output."""
    return nn.Sequential(*blocks, nn.Conv2d(6, 2, 1))


def test_a_users_container_is_written_inline_where_it_is_rare(cut: Callable[..., Any]) -> None:
    text = cut(chain(ConvNorm(3, 6), ConvNorm(6, 6)), 3, 4, 4).text
    assert classes(text) == ["Net"]


def test_a_users_container_is_a_class_where_that_is_shorter(cut: Callable[..., Any]) -> None:
    blocks = [ConvNorm(6, 6, size, nn.ReLU()) for size in (3, 5, 1, 3) * 2]
    result = cut(chain(ConvNorm(3, 6, 3, nn.ReLU()), *blocks), 3, 4, 4)
    assert class_text(result.text, "ConvNorm") == (
        "class ConvNorm(nn.Sequential):\n"
        "    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:\n"
        "        super().__init__(\n"
        "            nn.Conv2d(\n"
        "                in_channels,\n"
        "                out_channels,\n"
        "                kernel_size,\n"
        "                padding=kernel_size // 2,\n"
        "                bias=False,\n"
        "            ),\n"
        "            nn.BatchNorm2d(out_channels),\n"
        "            nn.ReLU(),\n"
        "        )\n"
    )
    assert re.search(r"ConvNorm\(\d, \d, 5\),", result.text)
    assert {type(block).__name__ for block in list(result.small)[:-1]} == {"ConvNorm"}


@pytest.mark.parametrize(
    ("lasts", "parameter", "lines"),
    [
        (
            [[nn.ReLU(True)], [nn.Hardswish(True)], []],
            "activation: type[nn.Module] | None = None",
            ["if activation is not None:", "    self.append(activation(inplace=True))"],
        ),
        (
            [[nn.ReLU()], [nn.Sigmoid()]],
            "activation: type[nn.Module]",
            ["self.append(activation())"],
        ),
        (
            [[nn.ReLU(True)], [nn.GELU()], []],
            "activation: nn.Module | None = None",
            ["if activation is not None:", "    self.append(activation)"],
        ),
        (
            [[nn.ReLU()], [nn.Dropout(0.1)]],
            "layer: nn.Module",
            ["self.append(layer)"],
        ),
    ],
    ids=["some lack it", "of two kinds", "made otherwise", "of no common kind"],
)
def test_a_last_layer_that_differs_is_an_argument(
    cut: Callable[..., Any], lasts: list[list[nn.Module]], parameter: str, lines: list[str]
) -> None:
    blocks = [ConvNorm(3 if n == 0 else 6, 6, 3, *lasts[n % len(lasts)]) for n in range(9)]
    text = class_text(cut(chain(*blocks), 3, 4, 4).text, "ConvNorm")
    assert re.search(rf"[ ]{re.escape(parameter)}(\)|,|\n)", text)
    assert text.splitlines()[-len(lines) :] == [f"        {line}" for line in lines]


class Pair(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList([first, second])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[0](self.layers[1](x))


def test_modules_that_are_written_alike_are_two_arguments(cut: Callable[..., Any]) -> None:
    plain = Pair(nn.Linear(4, 4), nn.Linear(4, 4))
    deep = Pair(nn.Sequential(nn.Linear(4, 4)), nn.Sequential(nn.Linear(4, 4)))
    result = cut(nn.Sequential(nn.Linear(3, 4), plain, deep, nn.Linear(4, 2)), 3, share=0.0)
    assert classes(result.text).count("Pair") == 1
    first, second = result.small[1].layers
    assert first is not second


def test_a_users_container_with_names_has_them_as_attributes(cut: Callable[..., Any]) -> None:
    class Transition(nn.Sequential):
        def __init__(self, inputs: int) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(inputs)
            self.act = nn.ReLU(inplace=True)
            self.conv = nn.Conv2d(inputs, 6, 1, bias=False)

    blocks = [Transition(6) for _ in range(4)]
    text = cut(chain(nn.Conv2d(3, 6, 1), *blocks), 3, 4, 4).text
    assert class_text(text, "Transition") == (
        "class Transition(nn.Sequential):\n"
        "    def __init__(self, in_channels: int, out_channels: int) -> None:\n"
        "        super().__init__()\n"
        "        self.norm = nn.BatchNorm2d(in_channels)\n"
        "        self.act = nn.ReLU(inplace=True)\n"
        "        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)\n"
    )


def test_every_written_file_is_formatted(
    cut: Callable[..., Any], check_style: Callable[..., None]
) -> None:
    wide = nn.Sequential(*(Block(3, 6, 3) for _ in range(12)), nn.Linear(3, 2))
    named = nn.Sequential(Residual(3, 5), Block(3, 6, 8, nn.Dropout(0.1)), nn.Linear(8, 2))
    lasts = [[nn.ReLU(True)], [nn.Hardswish(True)], []]
    blocks = [ConvNorm(3 if n == 0 else 6, 6, 3, *lasts[n % 3]) for n in range(9)]
    check_style([cut(wide, 3).text, cut(named, 3).text, cut(chain(*blocks), 3, 4, 4).text])


def test_a_class_that_holds_nothing_has_no_constructor(cut: Callable[..., Any]) -> None:
    class Swish(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(x)

    text = cut(nn.Sequential(nn.Linear(3, 6), Swish(), nn.Linear(6, 2)), 3).text
    assert "class Swish(nn.Module):\n    def forward(" in text


class Numbered(nn.Module):
    """Gives functions numbers that it holds in lists."""

    def __init__(self, size: int, times: int, slope: float) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.weight = nn.Parameter(torch.rand(size, size))
        self.numbers = [times, slope, times > 1]

    def forward(self, x: Tensor) -> Tensor:
        x = torch.add(self.linear(x), self.weight.sum())
        x = F.leaky_relu(x, self.numbers[1], inplace=self.numbers[2])
        return torch.roll(x, self.numbers[0], 0)


def test_numbers_that_functions_are_given_are_arguments(cut: Callable[..., Any]) -> None:
    layers = [Numbered(3, 1, 0.1), Numbered(5, 2, 0.1), Numbered(3, 3, 0.2)]
    text = cut(nn.Sequential(*layers, nn.Linear(3, 2)), 3).text
    assert classes(text) == ["Numbered", "Net"]
    text = class_text(text, "Numbered")
    assert "negative_slope=self.negative_slope, inplace=self.inplace" in text
    assert "self.shifts" in text


class ByTensor(nn.Module):
    """A scale that is no parameter."""

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 1)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * self.scale


@pytest.mark.parametrize(
    "shapes", [*itertools.permutations([(), (1,), (6, 1, 1), (1, 6, 1, 1)], 2)]
)
def test_instances_may_hold_tensors_of_other_ranks(
    cut: Callable[..., Any], shapes: tuple[tuple[int, ...], ...]
) -> None:
    blocks = [ByTensor(torch.rand(shape)) for shape in shapes]
    cut(nn.Sequential(nn.Conv2d(3, 6, 1), *blocks, nn.Conv2d(6, 2, 1)), 3, 4, 4)
