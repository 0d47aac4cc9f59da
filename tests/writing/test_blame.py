"""Who is named where a network's text cannot be built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prunecore
from prunecore import PrunecoreError
from prunecore.plugin import BlockSource, Call
from prunecore.writing.building import build, check_kinds

from .. import toy
from ..strangers import (
    TEXT,
    Block,
    Net,
    fails_to_write,
    message,
    owning,
    prune_with,
    writing,
)


def test_a_right_block_is_built(install: Callable[..., None]) -> None:
    job = prune_with(install, **writing("source(writer, block)"))
    assert "self.linear = nn.Linear(inputs, outputs)" in job().source


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("Call('nn.Linear(')", "does not compile: '(' was never closed: nn.Linear(()"),
        (
            "Call('nn.Linear', (3,), {'in features': 4})",
            "does not make the block: TypeError: Linear.__init__() got an unexpected keyword "
            "argument 'in features'",
        ),
        ("Call('nn Linear', (3, 4))", "does not compile: invalid syntax: nn Linear(3, 4)"),
        (
            "Call('nn.Linaer', (3, 4))",
            "does not make the block: AttributeError: module 'torch.nn' has no attribute 'Linaer'",
        ),
        ("Call('Missing')", "does not make the block: NameError: name 'Missing' is not defined"),
        (
            "Call('nn.Linear', (3,))",
            "does not make the block: TypeError: Linear.__init__() missing 1 required positional "
            "argument: 'out_features'",
        ),
        (
            "BlockSource(Call('Block', (3,)), {'Block': TEXT}).call",
            "does not make the block: NameError: name 'Block' is not defined",
        ),
    ],
)
def test_a_call_that_is_wrong(install: Callable[..., None], value: str, told: str) -> None:
    said = fails_to_write(install, f"BlockSource({value})", BlockSource=BlockSource, Call=Call)
    assert said.startswith("blocks.0 gives text that ")
    assert told in said


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("class Block(nn.Module):", "class Block(nn.Modul):", "AttributeError: module 'torch.nn'"),
        ("class Block", "1 / 0\n\n\nclass Block", "ZeroDivisionError: division by zero"),
        ("class Block", "raise SystemExit(3)\n\n\nclass Block", "SystemExit: 3"),
        ("x: Tensor", "x: Tensro", "NameError: name 'Tensro' is not defined"),
        ("nn.Linear(", "nn.Linear(0 / 0, ", "ZeroDivisionError: division by zero"),
        ("super().__init__()", "pass", "AttributeError: cannot assign module before"),
        ("self.linear =", "self.lin =", 'Missing key(s) in state_dict: "block.lin.weight"'),
        (
            "outputs)\n",
            "outputs, bias=False)\n",
            'Unexpected key(s) in state_dict: "block.linear.b',
        ),
        ("nn.Linear(inputs", "nn.Linear(4", "size mismatch for block.linear.weight: "),
        (
            "self.linear = ",
            "self.scale = nn.Parameter(torch.ones(1))\n        self.linear = ",
            'Missing key(s) in state_dict: "block.scale"',
        ),
    ],
)
def test_a_class_that_does_not_make_the_block(
    install: Callable[..., None], before: str, after: str, told: str
) -> None:
    assert before in TEXT
    said = fails_to_write(install, "source(writer, block, text)", text=TEXT.replace(before, after))
    assert said.startswith("blocks.0 gives text that does not make the block: ")
    assert told in said


def test_a_parameter_that_became_a_buffer(install: Callable[..., None]) -> None:
    class Scaled(Block):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x) * self.scale

    class Scaling(Net):
        def __init__(self) -> None:
            super().__init__()
            self.blocks[1] = Scaled()

    line = 'self.register_buffer("scale", torch.ones(1))\n        self.linear = '
    text = TEXT.replace("Block", "Scaled").replace("self.linear = ", line)
    choice = "source(writer, block, *([text, 'Scaled'] if name == 'blocks.1' else []))"
    job = prune_with(
        install,
        Scaling,
        prunecore_block_types=owning(Block, Scaled),
        **writing(choice, text=text),
    )
    assert (
        "prunecore_write_block for blocks.1 gives text that does not make the block: scale of the "
        "written network is no parameter, as it is in the original.\n"
    ) in message(job)


def test_kinds_of_tensors() -> None:
    one, other = nn.Module(), nn.Module()
    one.register_buffer("a", torch.ones(1))
    other.a = nn.Parameter(torch.ones(1))
    check_kinds(one, one)
    check_kinds(other, other)
    with pytest.raises(PrunecoreError, match="a of the written network is no buffer, as it is in"):
        check_kinds(one, other)


def test_a_block_within_one_is_named_and_not_the_one_around_it(
    install: Callable[..., None],
) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Block()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

    class Nested(Net):
        def __init__(self) -> None:
            super().__init__()
            self.blocks[1] = Outer()

    value = """BlockSource(Call("nn.Sequential", (writer.child(block.inner, f"{name}.inner"),))) \
        if hasattr(block, "inner") else source(writer, block)"""
    job = prune_with(
        install,
        Nested,
        prunecore_block_types=owning(Block, Outer),
        **writing(value, BlockSource=BlockSource, Call=Call),
    )
    assert "prunecore_write_block for blocks.1 gives text that does not make" in message(job)


def test_a_child_in_a_place_of_another_name(install: Callable[..., None]) -> None:
    said = fails_to_write(
        install,
        "BlockSource(Call('nn.ModuleDict', ({'lin': child(block.linear, name, writer)},)))",
        BlockSource=BlockSource,
        Call=Call,
        child=lambda module, name, writer: writer.child(module, f"{name}.linear"),
    )
    assert said.startswith("blocks.0 gives text that does not make the block: RuntimeError: ")
    assert '"block.lin.weight"' in said


def test_a_fault_of_the_core_is_told_as_it_is(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The core writes `Block`, which a Sequential of the toys holds."""

    def broken(text: str, name: str, weights: Any) -> nn.Module:
        if "class Block" in text:
            raise PrunecoreError("It is broken.\nReport it.")
        return build(text, name, weights)

    install(toy=toy)
    monkeypatch.setattr("prunecore.writing.building.build", broken)
    assert message(lambda: prunecore.prune(Net(), level=30, input_shape=(3,)), PrunecoreError) == (
        "It is broken.\nReport it."
    )


def test_what_can_be_built_alone_is_not_at_fault(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(text: str, name: str, weights: Any) -> nn.Module:
        if name == "alone":
            return build(text, name, weights)
        raise PrunecoreError("It is broken.\nReport it.")

    monkeypatch.setattr("prunecore.writing.building.build", broken)
    assert message(prune_with(install), PrunecoreError) == "It is broken.\nReport it."
