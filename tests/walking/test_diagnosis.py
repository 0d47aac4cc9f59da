"""A plugin that says of a block what it does not return is named, wherever that comes to light."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import prunecore
import prunecore.plugin
from prunecore import UnsupportedError
from prunecore.channels.ids import along, without_channels
from prunecore.channels.signal import shaped
from prunecore.errors import InputShapeError
from prunecore.plugin import PluginError, Signal
from prunecore.walking.diagnosis import Shapes, watch

from ..strangers import Block, Net, answering, message, owning, prune_with

HOOK = "prunecore_calculate_dependencies"
NAMES: dict[str, Any] = {
    "Signal": Signal,
    "along": along,
    "np": np,
    "shaped": shaped,
    "torch": torch,
    "without_channels": without_channels,
}


def said(
    install: Callable[..., None],
    value: str,
    network: Callable[[], nn.Module] = Net,
    verify: bool = False,
    **hooks: Any,
) -> str:
    """What is said where a block's channels are calculated so, for which block on."""
    hooks = {HOOK: answering(HOOK, value, **NAMES), **hooks}
    text = message(prune_with(install, network, verify, **hooks))
    start = f"prunecore-mine 0.1: {HOOK} for "
    assert text.startswith(start)
    return text[len(start) :].splitlines()[0]


# Where the walk ends for it


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            "Signal(shaped((2, 5)), along(1, 2, channels.fresh(5)))",
            "a tensor of shape (2, 5) for 2 inputs",
        ),
        (
            "Signal(shaped((2, 4, 1)), without_channels(3))",
            "a tensor of shape (2, 4, 1) for 2 inputs",
        ),
        ("(inputs[0],)", "a collection of tensors of (2, 4) for 2 inputs"),
        ("[inputs[0], inputs[0]]", "a collection of tensors of (2, 4), (2, 4) for 2 inputs"),
        ("{'out': inputs[0]}", "a collection of tensors of (2, 4) for 2 inputs"),
    ],
)
def test_a_wrong_shape_or_number_of_tensors(
    install: Callable[..., None], value: str, told: str
) -> None:
    class Last(Net):
        def __init__(self) -> None:
            super().__init__()
            del self.blocks[1]

    assert said(install, value, Last) == (
        f"blocks.0 returned {told}, where the block itself returns a tensor of shape (2, 4) for 2 "
        "inputs."
    )


def test_the_first_of_several_is_named(install: Callable[..., None]) -> None:
    value = "Signal(shaped((2, 5)), along(1, 2, channels.fresh(5)))"
    assert said(install, value).startswith("blocks.0 returned a tensor of shape (2, 5)")


class Gated(Block):
    """Its forward cannot be traced, nor run without values."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 1e9 else self.linear(x)


class Gating(Net):
    def __init__(self) -> None:
        super().__init__()
        self.blocks[0] = Gated()


def test_a_block_that_needs_values(install: Callable[..., None]) -> None:
    text = said(
        install,
        "Signal(shaped((2, 7)), along(1, 2, channels.fresh(7)))",
        Gating,
        prunecore_block_types=owning(Gated),
    )
    assert text.startswith("blocks.0 returned a tensor of shape (2, 7) for 2 inputs, where the bl")


def test_shapes_that_do_not_fit_within_the_calculation(install: Callable[..., None]) -> None:
    value = "channels.run(torch.nn.functional.linear, inputs[0], shaped((3, 3)))"
    text = said(install, value)
    assert text.startswith("blocks.0 comes to shapes that do not fit, where the block itself runs:")
    assert "blocks.0 (Block) cannot take a tensor of shape (4,)" in text


def test_a_child_that_is_given_something_wrong_is_not_at_fault(
    install: Callable[..., None],
) -> None:
    value = "channels.through(block.linear, Signal(shaped((2, 3)), without_channels(2)))"
    text = said(install, value)
    assert text.startswith("blocks.0 comes to shapes that do not fit, where the block itself runs:")
    assert "blocks.0.linear (Linear) cannot take a tensor of shape (3,)" in text


def test_an_input_shape_that_the_network_cannot_take_is_the_users(
    install: Callable[..., None],
) -> None:
    prune_with(install)
    text = message(lambda: prunecore.prune(Net(), level=30, input_shape=(5,)), InputShapeError)
    assert text.startswith("first (Linear) cannot take a tensor of shape (5,): ")


def test_what_a_hook_raises_stays_what_is_told(install: Callable[..., None]) -> None:
    assert said(install, "1 / 0") == "blocks.0 raised ZeroDivisionError: division by zero."


def test_a_refusal_runs_nothing(install: Callable[..., None]) -> None:
    class Counting(Net):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            Counting.calls += not isinstance(x, torch.fx.Proxy)
            return super().forward(x)

    def refuse(block: Any, inputs: Any, channels: Any) -> Any:
        channels.refuse("it is shy", "Encourage it.")

    message(prune_with(install, Counting, **{HOOK: refuse}), UnsupportedError)
    assert Counting.calls == 0
    said(install, "1 / 0", Counting)
    assert Counting.calls == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_other_types(install: Callable[..., None], dtype: torch.dtype) -> None:
    value = "Signal(shaped((2, 5)), along(1, 2, channels.fresh(5)))"
    text = said(install, value, lambda: Net().to(dtype))
    assert text.startswith("blocks.0 returned a tensor of shape (2, 5)")


def test_a_network_that_cannot_be_copied(install: Callable[..., None]) -> None:
    class Locked(Net):
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()

    prune_with(install, **{HOOK: answering(HOOK, "(inputs[0],)")})
    with pytest.raises(PluginError, match=r"prunecore-mine|prunecore-toy"):
        prunecore.prune(Locked(), level=30, input_shape=(3,))


def test_the_users_network_is_left_as_it_was(install: Callable[..., None]) -> None:
    model = Net()
    called: list[int] = []
    handle = model.register_forward_hook(lambda *_: called.append(1))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    job = prune_with(install, lambda: model, **{HOOK: answering(HOOK, "(inputs[0],)")})
    random = torch.get_rng_state()
    message(job)
    assert called == []
    assert list(model._forward_hooks) == [handle.id]
    assert not any(module._forward_hooks for module in model.blocks.modules())
    assert all(module.training for module in model.modules())
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


# Where the walk goes on all the same


class Maps(nn.Module):
    """The size of the maps makes no difference to any weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)
        self.halve = Half()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.halve(self.first(x)).mean([2, 3]))


class Half(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, ::2, ::2] if x.sum() < 1e9 else x


@pytest.mark.parametrize("size", [8, 150])  # eight inputs to verify with, and six
def test_a_shape_that_nothing_minds_is_found_by_verification(
    install: Callable[..., None], size: int
) -> None:
    hooks = {
        "prunecore_block_types": owning(Half),
        HOOK: answering(HOOK, "inputs[0]"),
        "prunecore_write_block": answering(
            "prunecore_write_block",
            "BlockSource(Call('Half'), {'Half': TEXT})",
            BlockSource=prunecore.plugin.BlockSource,
            Call=prunecore.plugin.Call,
            TEXT=HALF,
        ),
    }
    prune_with(install, **hooks)
    model = Maps()
    assert prunecore.prune(model, level=30, input_shape=(3, size, size), verify=False).report
    text = message(lambda: prunecore.prune(model, level=30, input_shape=(3, size, size)))
    count = min(8, 3 * 224 * 224 // (3 * size * size))
    assert text.splitlines()[0] == (
        f"prunecore-mine 0.1: {HOOK} for halve returned a tensor of shape (2, 4, {size}, {size}) "
        f"for 2 inputs, where the block itself returns a tensor of shape "
        f"({count}, 4, {size // 2}, {size // 2}) for {count} inputs."
    )


HALF = """\
class Half(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, ::2, ::2] if x.sum() < 1e9 else x
"""


# Shapes


@pytest.mark.parametrize(
    ("ours", "theirs", "fits"),
    [
        (Shapes(2, True, ((2, 4),)), Shapes(2, True, ((2, 4),)), True),
        (Shapes(2, True, ((2, 4),)), Shapes(5, True, ((5, 4),)), True),
        (Shapes(2, True, ((7, 2, 4),)), Shapes(1, True, ((7, 1, 4),)), True),
        (Shapes(2, True, ((18, 4),)), Shapes(5, True, ((45, 4),)), True),  # windows of images
        (Shapes(2, True, ((9, 4),)), Shapes(5, True, ((9, 4),)), True),
        (Shapes(2, False, ((2, 4), (2, 3))), Shapes(5, False, ((5, 4), (5, 3))), True),
        (Shapes(2, False, ()), Shapes(5, False, ()), True),
        (Shapes(2, True, ((2, 4),)), Shapes(2, True, ((2, 5),)), False),
        (Shapes(2, True, ((2, 4),)), Shapes(5, True, ((5, 10),)), True),  # cannot be told apart
        (Shapes(2, True, ((2, 4),)), Shapes(5, True, ((4, 4),)), False),
        (Shapes(2, True, ((2, 4),)), Shapes(2, False, ((2, 4),)), False),
        (Shapes(2, True, ((2, 4),)), Shapes(2, True, ((2, 4, 1),)), False),
        (Shapes(2, False, ((2, 4),)), Shapes(2, False, ((2, 4), (2, 4))), False),
    ],
)
def test_shapes_for_other_numbers_of_inputs(ours: Shapes, theirs: Shapes, fits: bool) -> None:
    assert ours.fits(theirs) is fits
    assert theirs.fits(ours) is fits


def test_watching_notes_every_call() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    network.append(network[0])
    runs = watch(network, ["0", "1"], 5)
    network(torch.rand(5, 3))
    shapes = [(run.given.each, run.returned.each) for run in runs["0"]]
    assert shapes == [(((5, 3),), ((5, 3),))] * 2
    assert len(runs["1"]) == 1


def test_what_the_network_itself_raises_blames_no_plugin(install: Callable[..., None]) -> None:
    class Wrong(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.blocks((self.first(x), x)))

    text = message(prune_with(install, Wrong), InputShapeError)
    assert text.startswith("Wrong cannot be called with inputs of shape (3,): it raises ")


class Raising(Net):
    """Its second block runs a function in its forward."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.blocks[1] = Running(function)


class Running(nn.Module):
    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def unplugged(block: nn.Module, x: Tensor) -> Tensor:
    raise ValueError("camera not connected.")


def unplugged_in_training(block: nn.Module, x: Tensor) -> Tensor:
    return unplugged(block, x) if block.training else x


# what a forward does that raises, and how that is told
RAISED: list[tuple[Callable[..., Any], str]] = [
    (unplugged, "(Running): it raises ValueError: camera not connected ("),
    (lambda _, x: x * (1 / 0), "(Running): it raises ZeroDivisionError: division by zero ("),
    (lambda _, x: {}["key"] * x, "(Running): it raises KeyError: 'key' ("),
    (lambda block, x: block.lost(x), "(Running): it raises AttributeError: 'Running' object has"),
    (lambda _, x: x + None, "it raises TypeError: unsupported operand type(s) for +: 'Tensor' and"),
    (unplugged_in_training, "(Running): in training it raises ValueError: camera not connected ("),
]


@pytest.mark.parametrize(("function", "told"), RAISED)
@pytest.mark.parametrize("strict", [False, True])
def test_what_a_network_raises_by_itself_is_told(
    toys_installed: None, function: Callable[..., Any], told: str, strict: bool
) -> None:
    job = functools.partial(prunecore.trace, Raising(function), torch.rand(2, 3))
    if function is unplugged_in_training and not strict:
        assert "blocks.1" in job().dependencies.left_whole  # which runs in eval mode
        return
    text = message(functools.partial(job, strict=strict), UnsupportedError)
    assert told in text
    assert text.splitlines()[1].startswith(
        "Call the network yourself first, with a batch of inputs of shape (3,), and correct what"
    )


def test_a_network_that_runs_is_not_said_to_raise(toys_installed: None) -> None:
    net = Raising(lambda _, x: x if x.sum() < 1e9 else -x)
    job = functools.partial(prunecore.trace, net, torch.rand(2, 3), strict=True)
    assert "its forward cannot be traced: " in message(job, UnsupportedError)


def test_a_network_without_values_is_not_said_to_raise(toys_installed: None) -> None:
    net = Raising(lambda _, x: x if x.sum() < 1e9 else -x).to("meta")
    job = functools.partial(prunecore.trace, net, torch.rand(2, 3), strict=True)
    assert "its forward cannot be traced: " in message(job, UnsupportedError)
