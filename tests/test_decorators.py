"""Decorators: a class keeps its behaviour, and what they name is looked for at the first use."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prunecore
from prunecore import LevelError, PrunecoreError, UsageError, skip
from prunecore.plugin import DecoratedBlocks


def network_class() -> type[nn.Module]:
    """A class of its own for each test, as decorating leaves a trace in prunecore."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, padding=1)
            self.inner = nn.Sequential(nn.Conv2d(8, 16, 1), nn.ReLU(), nn.Conv2d(16, 8, 1))
            self.wide = nn.Conv2d(8, 12, 1)
            self.head = nn.Conv2d(12, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.head(torch.relu(self.wide(self.inner(x) + x)))

    return Net


def fire_of(blocks: DecoratedBlocks) -> Callable[..., Any]:
    return blocks.decorator("fire", "a block class that squeezes")


@pytest.fixture(autouse=True)
def _toy(install: Callable[..., None], toy: ModuleType) -> None:
    install(toy=toy)


def prune(cls: type[nn.Module], level: float = 30) -> prunecore.PrunedModel:
    torch.manual_seed(0)
    return prunecore.prune(cls(), level=level, input_shape=(3, 6, 6), mode="random")


def test_a_protected_layer_keeps_its_channels_and_the_others_go():
    plain = prune(network_class(), 50)
    protected = prune(skip(layers=["wide"])(network_class()), 50)
    assert plain.model.wide.out_channels < 12
    assert protected.model.wide.out_channels == 12
    assert protected.model.wide.in_channels < 8
    assert protected.report["verified"]
    assert protected.report["left_whole"] == []  # somebody asked for it


def test_all_layers_of_a_protected_container_are_protected():
    small = prune(skip(layers=["inner"])(network_class()), 5)
    assert small.model.inner[0].out_channels == 16
    assert small.model.inner[2].out_channels == 8
    assert small.report["left_whole"] == [{"layer": "stem", "reason": "skip protects inner.2"}]


def test_a_path_reaches_into_containers():
    small = prune(skip(layers=["inner.0"])(network_class()))
    assert small.model.inner[0].out_channels == 16
    assert small.model.wide.out_channels < 12


def test_protection_reaches_classes_that_derive_from_a_decorated_one():
    decorated = skip(layers=["wide"])(network_class())
    derived = type("Derived", (decorated,), {})
    assert prune(derived).model.wide.out_channels == 12


def test_an_unreachable_level_names_what_is_protected():
    with pytest.raises(LevelError, match="inner, which skip protects"):
        prune(skip(layers=["inner"])(network_class()), 90)


def test_a_network_that_is_protected_as_a_whole_is_refused():
    with pytest.raises(PrunecoreError, match="stem because skip protects it"):
        prune(skip(layers=["stem", "inner", "wide"])(network_class()))


def test_a_layer_that_the_class_does_not_have_is_told_at_the_first_use():
    decorated = skip(layers=["widen"])(network_class())
    with pytest.raises(UsageError) as caught:
        prune(decorated)
    assert str(caught.value) == (
        "@skip on Net names 'widen', which the class does not have. Did you mean 'wide'?\n"
        "Its children: stem, inner, wide, head."
    )


def test_decorating_leaves_the_class_as_it_was():
    plain = network_class()
    before = dict(vars(plain))
    assert skip(layers=["stem"])(plain) is plain
    assert fire_of(DecoratedBlocks())(convs=["stem"])(plain) is plain
    assert dict(vars(plain)) == before


@pytest.mark.parametrize("names", ["conv1", [1], [""]])
def test_names_are_a_list_of_texts(names):
    with pytest.raises(UsageError, match="not a list of attribute names"):
        skip(layers=names)
    with pytest.raises(UsageError, match="@fire: downsampling is"):
        fire_of(DecoratedBlocks())(convs=["conv1"], downsampling=names)


@pytest.mark.parametrize(
    "decorator", [skip(layers=["a"]), fire_of(DecoratedBlocks())(convs=["conv1"])]
)
def test_only_module_classes_are_decorated(decorator):
    with pytest.raises(UsageError, match=r"not a torch\.nn\.Module class"):
        decorator(lambda x: x)


def test_a_description_is_found_by_class_and_by_what_derives_from_it():
    blocks, cls = DecoratedBlocks(), network_class()
    fire_of(blocks)(lType="squeeze", convs=["stem", "wide"], downsampling=["head"])(cls)
    assert list(blocks) == [cls]
    description = blocks.description(type("Derived", (cls,), {})())
    assert description.block_type == "squeeze"
    assert description.convs == ("stem", "wide")
    assert description.downsampling == ("head",)
    assert blocks.description(network_class()()) is None


def test_a_decorator_is_a_function_with_its_signature_and_docstring():
    fire = fire_of(DecoratedBlocks())
    assert fire.__name__ == fire.__qualname__ == "fire"
    assert str(inspect.signature(fire)) == (
        "(*, lType: 'str' = 'fire', convs: 'Sequence[str]', downsampling: 'Sequence[str]' = ())"
        " -> 'Callable[[Class], Class]'"
    )
    assert fire.__doc__.startswith("Put a block class that squeezes in this family's care.\n")
    assert "\n    convs: the attributes that are its convolutions, in order.\n" in fire.__doc__


def test_the_usual_block_type_is_the_decorators_name_or_another():
    blocks, cls = DecoratedBlocks(), network_class()
    blocks.decorator("basic_block", "a block class", "basic")(convs=["stem"])(cls)
    assert blocks.description(cls()).block_type == "basic"
    fire_of(blocks)(convs=["stem"])(cls)
    assert blocks.description(cls()).block_type == "fire"
