"""Modules as they are written: their tensors, their children, what they share, what is left out."""

from __future__ import annotations

import collections
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunecore import UnsupportedError
from prunecore.channels.names import join
from prunecore.plugin import BlockSource, Call, Keep, PluginError, hookimpl
from prunecore.plugins.loading import register
from prunecore.registry import Plugins
from prunecore.walking.network import find_dependencies
from prunecore.writing.building import build, transfer_weights
from prunecore.writing.source_file import write_network
from prunecore.writing.writer import Writer


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 6)
        self.last = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x))


def test_own_parameters_and_buffers_have_their_kept_shapes(cut: Callable[..., Any]) -> None:
    class Own(Net):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.rand(6))
            self.gain = nn.Parameter(torch.rand(()))
            self.absent = nn.Parameter(torch.rand(6))
            self.register_parameter("absent", None)
            self.register_buffer("shift", torch.rand(1, 6))
            self.register_buffer("steps", torch.tensor(3))
            self.register_buffer("missing", None)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x) * self.scale * self.gain + self.shift)

    result = cut(Own(), 3)
    width = result.small.first.out_features
    assert width < 6
    lines = result.init.splitlines()
    assert lines[:4] == [
        f"self.scale = nn.Parameter(torch.rand({width}))",
        "self.gain = nn.Parameter(torch.rand(()))",
        f'self.register_buffer("shift", torch.rand(1, {width}))',
        'self.register_buffer("steps", torch.zeros((), dtype=torch.int64))',
    ]


@pytest.mark.parametrize(
    "constant",
    [
        torch.tensor([1.5, -0.1, 2.0, 3.0, 4.0, 5.0]),
        torch.tensor([0.1, math.pi, -2, 3, 4, 5], dtype=torch.float64),
        torch.tensor([1, 0, 1, 1, 0, 1], dtype=torch.bool),
        torch.tensor([1, 2, 3, 4, 5, 6]),
        torch.tensor([1, 2, 3, 4, 5, 6], dtype=torch.int32),
        torch.tensor([1, 2, 3, 4, 5, 6], dtype=torch.float16),
        torch.tensor(0.5),
        torch.rand(1, 6),
    ],
    ids=lambda constant: f"{constant.dtype}{tuple(constant.shape)}",
)
def test_a_buffer_that_is_not_saved_is_written_out(
    find: Callable[..., Any], cut: Callable[..., Any], constant: Tensor
) -> None:
    class Own(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("constant", constant, persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x) * self.constant)

    result = cut(Own(), 3)
    assert "persistent=False" in result.text
    assert "constant" not in result.small.state_dict()
    kept = result.small.constant
    if constant.ndim:
        assert kept.shape[-1] == result.small.first.out_features
    assert kept.dtype == result.model.constant.dtype


def test_a_constant_that_is_not_finite(cut: Callable[..., Any]) -> None:
    class Masked(Net):
        def __init__(self) -> None:
            super().__init__()
            mask = torch.tensor([[math.inf], [-math.inf]])
            self.register_buffer("bounds", mask, persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.minimum(self.first(x), self.bounds[0])
            return self.last(torch.maximum(x, self.bounds[1]))

    result = cut(Masked(), 3)
    assert torch.equal(result.small.bounds, result.model.bounds)


def test_a_large_buffer_that_is_not_saved_comes_with_the_weights(cut: Callable[..., Any]) -> None:
    class Own(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.rand(5, 12, 6), persistent=False)
            self.register_buffer("index", torch.randint(9, (13, 5)), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x) * self.table.sum((0, 1))
            return self.last(x) + self.index.sum()

    result = cut(Own(), 3)
    assert "persistent=False" not in result.text
    small, model = result.small, result.model
    assert torch.equal(small.index, model.index)
    assert small.table.shape == (5, 12, small.first.out_features)
    assert {*small.state_dict()} - {*model.state_dict()} == {"table", "index"}


def test_a_large_buffer_that_repeats_itself_is_written_as_a_repetition(
    find: Callable[..., Any], toys: Plugins
) -> None:
    class Blurred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 20, 1), nn.Conv2d(20, 2, 1)
            kernel = torch.tensor([[1.0, 2.0], [2.0, 4.0]]).repeat(20, 1, 1)
            self.register_buffer("kernel", kernel, persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x) * self.kernel)

    model = Blurred()
    found = find(model, (2, 3, 2, 2))
    kept = np.ones(found.count, dtype=bool)
    kept[[1, 4]] = False
    keep = Keep(model, found, kept)
    text = write_network(model, keep, toys, "net", "A network.")
    assert "torch.tensor([[[1.0, 2.0], [2.0, 4.0]]]).repeat(18, 1, 1)" in text
    small = build(text, "net", transfer_weights(model, keep, toys))
    assert torch.equal(small.kernel, model.kernel[:18])


def test_named_tuples_of_one_name_and_other_fields_are_refused(
    find: Callable[..., Any], toys: Plugins
) -> None:
    class One(Net):
        def __init__(self, fields: str) -> None:
            super().__init__()
            self.outputs = collections.namedtuple("Outputs", fields)  # type: ignore[misc]

        def forward(self, x: Tensor) -> Any:
            return self.outputs(self.last(self.first(x)))

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = One("logits"), One("scores")

        def forward(self, x: Tensor) -> Any:
            return self.one(x), self.two(x)

    model = Two()
    found = find(model, (2, 3))
    keep = Keep(model, found, np.ones(found.count, dtype=bool))
    reason = r"through (one|two) \(One\): it returns a named tuple Outputs of other fields"
    with pytest.raises(UnsupportedError, match=reason):
        write_network(model, keep, toys, "net", "A network.")


@pytest.mark.parametrize("key", ["lambda", "0", "a-b", "class", "forward_"])
def test_a_child_may_have_any_name(cut: Callable[..., Any], key: str) -> None:
    class Odd(Net):
        def __init__(self) -> None:
            super().__init__()
            self.add_module(key, nn.Linear(6, 6))

        def forward(self, x: Tensor) -> Tensor:
            return self.last(getattr(self, key)(self.first(x)))

    assert f"{key}.weight" in cut(Odd(), 3).small.state_dict()


def test_what_the_forward_never_reaches_is_not_written(cut: Callable[..., Any]) -> None:
    class Aux(Net):
        def __init__(self) -> None:
            super().__init__()
            self.aux = nn.Linear(6, 2)
            self.body = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
            self.spare = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])

        def forward(self, x: Tensor) -> Any:
            return self.last(self.spare[0](self.first(x)))

    result = cut(Aux(), 3)
    assert result.dependencies.left_out == ("aux", "body", "spare.1")
    assert "aux" not in result.text
    assert "body" not in result.text
    assert set(result.small.state_dict()) == {
        f"{layer}.{kind}" for layer in ("first", "last", "spare.0") for kind in ("weight", "bias")
    }


def test_a_module_of_two_names_is_one_in_the_written_network(cut: Callable[..., Any]) -> None:
    class Shared(Net):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(6, 6)
            self.again = self.inner
            self.relu = nn.ReLU()
            self.relu2 = self.relu

        def forward(self, x: Tensor) -> Tensor:
            x = self.relu(self.inner(self.first(x)))
            return self.last(self.relu2(self.again(x)))

    result = cut(Shared(), 3)
    assert result.small.inner is result.small.again
    assert "self.again = self.inner" in result.text
    assert result.small.state_dict().keys() == result.model.state_dict().keys()


def test_a_parameter_of_two_modules_is_one_in_the_written_network(
    cut: Callable[..., Any],
) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode = nn.Linear(6, 6)
            self.decode = nn.Linear(6, 6, bias=False)
            self.decode.weight = self.encode.weight
            self.first, self.last = nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.decode(torch.relu(self.encode(self.first(x)))))

    result = cut(Tied(), 3)
    assert result.small.decode.weight is result.small.encode.weight
    assert "self.decode.weight = self.encode.weight" in result.text


def test_a_module_list_that_is_used_in_part_keeps_its_numbers(cut: Callable[..., Any]) -> None:
    class Parts(Net):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList([nn.Linear(6, 6), nn.ReLU()])

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.parts[1](self.parts[0](self.first(x))))

    assert "parts.0.weight" in cut(Parts(), 3).small.state_dict()


def plain(toys: Plugins, find: Callable[..., Any], model: nn.Module) -> Writer:
    found = find(model, (2, 3))
    return Writer(model, Keep(model, found, np.ones(found.count, dtype=bool)), toys)


def test_a_writer_gives_widths_arguments_and_calls(toys: Plugins, find: Callable[..., Any]) -> None:
    model = Net()
    writer = plain(toys, find, model)
    assert writer.width(model.first.weight, 0) == writer.argument(model.last, "in_features") == 6
    assert writer.argument(model.first, "in_features") == 3
    assert str(writer.child(model.first, "first")) == "nn.Linear(3, 6)"
    assert writer.first_call("last").inputs[0].shape == (2, 6)


def test_two_definitions_of_one_name_are_an_error(toys: Plugins, find: Callable[..., Any]) -> None:
    class One(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    class Other(One):
        def forward(self, x: Tensor) -> Tensor:
            return -x

    made = ModuleType("made")

    @hookimpl
    def prunecore_block_types() -> Any:
        return [One, Other]

    @hookimpl
    def prunecore_calculate_dependencies(inputs: Any) -> Any:
        return inputs[0]

    @hookimpl
    def prunecore_write_block(block: Any) -> Any:
        return BlockSource(Call("Block"), {"Block": f"class Block: {type(block).__name__} = 1"})

    vars(made).update(
        prunecore_block_types=prunecore_block_types,
        prunecore_calculate_dependencies=prunecore_calculate_dependencies,
        prunecore_write_block=prunecore_write_block,
    )
    plugins = Plugins([*toys.all, register(made, "made", "prunecore-made 1.0")])
    model = nn.Sequential(nn.Linear(3, 4), One(), One(), Other())
    found = find_dependencies(model, [torch.empty(2, 3, device="meta")], plugins)
    writer = Writer(model, Keep(model, found, np.ones(found.count, dtype=bool)), plugins)
    with pytest.raises(PluginError, match=r"for 3 defines Block in another text than"):
        writer.child(model, "")


@pytest.mark.parametrize(("path", "key", "joined"), [("", "a", "a"), ("a.0", "b", "a.0.b")])
def test_paths_are_joined_by_dots(path: str, key: str, joined: str) -> None:
    assert join(path, key) == joined


class Branch(nn.ModuleList):
    """A list that is none: it has children in attributes, and a forward."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.inner(x).relu())


def test_a_list_with_children_in_attributes_is_a_module(cut: Callable[..., Any]) -> None:
    result = cut(nn.Sequential(nn.Linear(3, 6), Branch()), 3)
    assert "class Branch(nn.Module):" in result.text
    assert result.dependencies.left_whole == {}
