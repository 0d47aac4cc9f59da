"""What the tests of broken plugins share: a network, and plugins made of a few functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prunecore
import prunecore.plugin
from prunecore import PrunecoreError
from prunecore.plugin import BlockSource, Call, hookimpl

from . import toy


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.blocks = nn.Sequential(Block(), Block())
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.blocks(self.first(x)))


# How a block is written by hand.
TEXT = """\
class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)
"""


def source(writer: Any, block: Any, text: str = TEXT, name: str = "Block") -> BlockSource:
    """A block as it is written by hand, with a class of this text."""
    weight = block.linear.weight
    return BlockSource(Call(name, (writer.width(weight, 1), writer.width(weight, 0))), {name: text})


def module(**hooks: Callable[..., Any]) -> ModuleType:
    """A plugin's module with these hooks."""
    made = ModuleType("made")
    for name, function in hooks.items():
        setattr(made, name, hookimpl(function))
    return made


def owning(*block_types: Any) -> Callable[[], Iterable[Any]]:
    """A hook that owns these classes."""

    def prunecore_block_types() -> Iterable[Any]:
        return list(block_types)

    return prunecore_block_types


def trace(block: Any, inputs: Any, channels: Any) -> Any:
    return channels.trace(block, *inputs)


def write(block: Any, name: str, writer: Any) -> Any:
    return writer.trace(block, name)


ARGUMENTS = {
    "prunecore_block_types": (),
    "prunecore_calculate_dependencies": ("block", "inputs", "channels"),
    "prunecore_write_block": ("block", "name", "writer"),
    "prunecore_transfer_weights": ("block", "name", "keep"),
    "prunecore_functions": (),
    "prunecore_criteria": (),
    "prunecore_latency_backends": (),
}
HOOKS = {
    "prunecore_block_types": owning(Block),
    "prunecore_calculate_dependencies": trace,
    "prunecore_write_block": write,
}


def hook(name: str, job: Callable[..., Any]) -> Callable[..., Any]:
    """A hook of this name with its usual arguments, which calls a job with them by name."""
    arguments = ARGUMENTS[name]
    scope: dict[str, Any] = {"job": job}
    passed = ", ".join(f"{argument}={argument}" for argument in arguments)
    exec(f"def {name}({', '.join(arguments)}): return job({passed})", scope)
    made: Callable[..., Any] = scope[name]
    return made


def answering(name: str, value: str, /, **names: Any) -> Callable[..., Any]:
    """A hook that answers with what an expression of its arguments gives."""
    return hook(name, lambda **arguments: eval(value, {**globals(), **names, **arguments}))


def prune_with(
    install: Callable[..., None],
    network: Callable[[], nn.Module] = Net,
    verify: bool = False,
    **hooks: Callable[..., Any],
) -> Callable[[], Any]:
    """A job with the toys and a plugin `mine`, right but for these hooks."""
    install(toy=toy, mine=module(**{**HOOKS, **hooks}))
    torch.manual_seed(0)
    model = network()
    return lambda: prunecore.prune(model, level=40, input_shape=(3,), verify=verify, strict=True)


def message(
    job: Callable[[], Any], kind: type[PrunecoreError] = prunecore.plugin.PluginError
) -> str:
    """What a job that fails says."""
    with pytest.raises(kind) as caught:
        job()
    text = str(caught.value)
    assert len(text.splitlines()) == 2  # what and where; what to do
    return text


def writing(value: str, /, **names: Any) -> dict[str, Callable[..., Any]]:
    """The hook that writes a block as what an expression gives."""
    name = "prunecore_write_block"
    return {name: answering(name, value, **names)}


def fails_to_write(install: Callable[..., None], value: str, /, **names: Any) -> str:
    """What is said where a block is written as what an expression gives, for which block on."""
    said = message(prune_with(install, **writing(value, **names)))
    start = "prunecore-mine 0.1: prunecore_write_block for "
    end = ".\nReport it to the plugin's author, or block it: PRUNECORE_BLOCK=mine."
    assert said.startswith(start)
    assert said.endswith(end)
    return said[len(start) : -len(end)]
