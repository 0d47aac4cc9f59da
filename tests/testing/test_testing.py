"""The kit for plugin authors: it passes what is right, and names each fault of a plugin's."""

from __future__ import annotations

import copy
import inspect
import textwrap
import types
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunecore import PrunecoreError, errors
from prunecore.plugin import (
    BlockSource,
    Call,
    FunctionRule,
    PluginError,
    Signal,
    elementwise,
    hookimpl,
)
from prunecore.registry import Plugin
from prunecore.testing import check_block, check_plugin

from .. import toy as toy_plugin
from ..toy import Centre, Dense, Scale

Install = Callable[..., None]


class Gated(nn.Module):
    """A residual sum of a scaled body and its input."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up = Dense(width, inner)
        self.act = nn.ReLU()
        self.down = Dense(inner, width)
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.down(self.act(self.up(x)))


class Unless(Gated):
    """The same, for inputs that are not all zero: it cannot be traced."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.any() else x


SOURCE = """\
class Gated(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, inner)
        self.act = nn.ReLU()
        self.down = nn.Linear(inner, width)
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.down(self.act(self.up(x)))
"""


def calculate(block: Any, inputs: Any, channels: Any) -> Any:
    (x,) = inputs
    out = channels.through(block.up, x)
    out = channels.through(block.act, out)
    out = channels.through(block.down, out)
    channels.bind(block.scale, 0, channels.axis(out, 1))
    return channels.couple(out, x)


def write(block: Any, name: str, writer: Any) -> BlockSource:
    return written(writer.width(block.scale, 0), writer.width(block.up.weight, 0))


def written(width: int, inner: int, source: str = SOURCE) -> BlockSource:
    return BlockSource(Call("Gated", (width, inner)), {"Gated": source})


def family(**hooks: Any) -> types.ModuleType:
    """The plugin of `Gated` and `Unless`, some of its hooks replaced."""
    module = types.ModuleType("gated")
    hooks = {
        "block_types": lambda: [Gated, Unless],
        "calculate_dependencies": calculate,
        "write_block": write,
        **hooks,
    }
    for name, hook in hooks.items():
        if hook is not None:
            setattr(module, f"prunecore_{name}", hookimpl(hook))
    return module


@pytest.fixture
def use(install: Install) -> Callable[..., None]:
    """Install the toy plugin, and that of `Gated` with some hooks replaced."""

    def use(**hooks: Any) -> None:
        install(toy=toy_plugin, gated=family(**hooks))

    return use


def refused(block: nn.Module, *shapes: tuple[int, ...], **options: Any) -> str:
    with pytest.raises((AssertionError, PrunecoreError)) as failure:
        check_block(block, *shapes, **options)
    return str(failure.value)


# What is right


def test_a_right_plugin_passes(use: Any) -> None:
    use()
    check_block(Gated(6, 10), (6,))
    check_block(Unless(6, 10), (6,), traceable=False)


@pytest.mark.parametrize(
    ("block", "shape"),
    [
        (Dense(5, 7), (5,)),
        (nn.Linear(5, 7), (5,)),
        (nn.Conv2d(3, 8, 3, padding=1), (3, 6, 6)),
        (nn.BatchNorm2d(8), (8, 4, 4)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_layers_of_the_toy_plugin_pass(
    block: nn.Module, shape: tuple[int, ...], toys_installed: None
) -> None:
    check_block(block, shape, traceable=False)


def test_a_block_that_holds_others_passes(toys_installed: None) -> None:
    check_block(nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU()), (4, 6, 6))
    check_block(Scale(6), (6, 3))


@pytest.mark.parametrize("axis", [2, -1])
def test_the_channels_may_lie_along_another_axis(axis: int, toys_installed: None) -> None:
    check_block(nn.Linear(5, 7), (3, 5), traceable=False, axis=axis)


def test_several_inputs_and_outputs(use: Any) -> None:
    class Two(nn.Module):
        def __init__(self, width: int, out: int) -> None:
            super().__init__()
            self.dense = Dense(width, out)

        def forward(self, x: Tensor, by: Tensor) -> tuple[Tensor, Tensor]:
            return self.dense(x * by), by

    def calculate(block: Any, inputs: Any, channels: Any) -> Any:
        x, by = inputs
        return channels.through(block.dense, channels.couple(x, by)), by

    def write(block: Any, name: str, writer: Any) -> BlockSource:
        weight = block.dense.weight
        call = Call("Two", (writer.width(weight, 1), writer.width(weight, 0)))
        source = textwrap.dedent(inspect.getsource(Two)).replace("Dense", "nn.Linear")
        return BlockSource(call, {"Two": source})

    use(block_types=lambda: [Two], calculate_dependencies=calculate, write_block=write)
    check_block(Two(4, 5), (4,), (1,))
    check_block(Two(4, 5), (4,), (4,))


def test_a_forward_for_the_masked_original_may_mix_channels(toys_installed: None) -> None:
    check_block(Centre(), (6, 3))


def test_the_block_is_left_as_it_is(use: Any) -> None:
    use()
    block = Gated(6, 10).train()
    before = copy.deepcopy(block.state_dict())
    check_block(block, (6,))
    assert block.training
    for name, tensor in block.state_dict().items():
        assert torch.equal(tensor, before[name])


# Who owns it, and whether it can be traced


def test_a_block_that_nobody_owns(install: Install) -> None:
    install(toy=toy_plugin)
    message = refused(Gated(6, 10), (6,))
    assert "No plugin owns tests.testing.test_testing.Gated; installed: toy." in message
    assert "prunecore_block_types" in message


def test_tracing_is_refused_where_that_was_not_said(use: Any) -> None:
    use()
    message = refused(Unless(6, 10), (6,))
    assert "Unless cannot be traced" in message
    assert "traceable=False" in message


def test_tracing_works_where_it_was_said_not_to(use: Any) -> None:
    use()
    assert "Gated can be traced after all." in refused(Gated(6, 10), (6,), traceable=False)


# Calculators that do not agree with the forward


def follow(block: Any, x: Any, channels: Any) -> Any:
    return channels.through(block.down, channels.through(block.act, channels.through(block.up, x)))


def forgets_to_couple(block: Any, inputs: Any, channels: Any) -> Any:
    out = follow(block, *inputs, channels)
    channels.bind(block.scale, 0, channels.axis(out, 1))
    return out


def couples_too_much(block: Any, inputs: Any, channels: Any) -> Any:
    out = calculate(block, inputs, channels)
    ids = channels.axis(out, 1)
    channels.join(ids[:1], ids[1:2])
    return out


def test_a_plugin_may_know_better_than_its_forward_tells(use: Any) -> None:
    use(calculate_dependencies=couples_too_much)
    check_block(Gated(6, 10), (6,), traceable=False)


def forgets_to_bind(block: Any, inputs: Any, channels: Any) -> Any:
    return channels.couple(follow(block, *inputs, channels), *inputs)


def pins(block: Any, inputs: Any, channels: Any) -> Any:
    out = calculate(block, inputs, channels)
    channels.pin(channels.axis(out, 1)[2:], "it seems so")
    return out


def skips_a_child(block: Any, inputs: Any, channels: Any) -> Any:
    (x,) = inputs
    out = channels.through(block.down, channels.through(block.up, x))
    channels.bind(block.scale, 0, channels.axis(out, 1))
    return channels.couple(out, x)


def returns_another_shape(block: Any, inputs: Any, channels: Any) -> Any:
    out = calculate(block, inputs, channels)
    return Signal(torch.empty((2, 6, 1), device="meta"), out.ids[..., None])


def returns_two(block: Any, inputs: Any, channels: Any) -> Any:
    out = calculate(block, inputs, channels)
    return out, out


def counts_more(block: Any, inputs: Any, channels: Any) -> Any:
    channels.count_macs(block.scale, 1)
    return calculate(block, inputs, channels)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (
            forgets_to_couple,
            "the forward couples channel 0 of the input with place 0 of down.weight along axis 0, "
            "the hook does not",
        ),
        (
            couples_too_much,
            "the hook couples channel 0 of the input with channel 1 of the input, "
            "the forward does not",
        ),
        (
            forgets_to_bind,
            "place 0 of scale along axis 0 always stays by the hook, and may go by the forward",
        ),
        (
            pins,
            "channel 2 of the input always stays by the hook, and may go by the forward",
        ),
        (skips_a_child, "the forward goes through act, the hook does not"),
        (
            returns_another_shape,
            "the hook returns tensors of shapes [(2, 6, 1)], the forward of [(2, 6)]",
        ),
        (
            returns_two,
            "the hook returns tensors of shapes [(2, 6), (2, 6)], the forward of [(2, 6)]",
        ),
        (counts_more, "the hook counts 126 MACs, the forward 120"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_calculator_that_is_at_odds_with_the_forward(use: Any, fault: Any, says: str) -> None:
    use(calculate_dependencies=fault)
    message = refused(Gated(6, 10), (6,))
    assert message.startswith(
        "prunecore-gated 0.1: prunecore_calculate_dependencies does not agree"
    )
    assert f"{says}.\n" in message


def test_a_calculator_that_lets_go_what_the_forward_mixes(use: Any) -> None:
    class Mixed(Gated):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) - x.softmax(1).sum(1, keepdim=True)

    use(block_types=lambda: [Mixed])
    message = refused(Mixed(6, 10), (6,))
    assert "channel 0 of the input always stays by the forward, and may go by the hook" in message


# Written blocks that are wrong


def ignores_what_is_kept(block: Any, name: str, writer: Any) -> BlockSource:
    return written(len(block.scale), block.up.weight.shape[0])


def swaps_widths(block: Any, name: str, writer: Any) -> BlockSource:
    return written(writer.width(block.up.weight, 0), writer.width(block.scale, 0))


def writes_widths_into_the_class(block: Any, name: str, writer: Any) -> BlockSource:
    width, inner = writer.width(block.scale, 0), writer.width(block.up.weight, 0)
    source = SOURCE.replace("nn.Linear(width", f"nn.Linear({width}")
    return written(width, inner, source)


def writing(old: str, new: str) -> Callable[..., BlockSource]:
    def write(block: Any, name: str, writer: Any) -> BlockSource:
        assert old in SOURCE
        width, inner = writer.width(block.scale, 0), writer.width(block.up.weight, 0)
        return written(width, inner, SOURCE.replace(old, new))

    return write


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (ignores_what_is_kept, "does not make the block: RuntimeError"),
        (swaps_widths, "does not make the block: RuntimeError"),
        (writes_widths_into_the_class, "writes Gated otherwise where other channels are kept"),
        (writing("x + ", "x - "), "output 1 of Gated differs from the masked original's by"),
        (writing("self.act(self.up(x))", "self.up(x)"), "differs from the masked original's by"),
        (
            writing("self.down = ", "self.last = "),
            "does not make the block: RuntimeError",
        ),
        (
            writing(".act = nn.ReLU", ".act = nn.ReLUU"),
            "does not make the block: AttributeError",
        ),
        (writing("self.act(self", "self.acts(self"), "cannot be run: AttributeError"),
        (writing("return x", "return (x"), "defines Gated in text that does not compile: "),
        (writing("        return", "        import numpy\n        return"), "imports numpy"),
        (writing("self.act(self.up(x))", "self.act(self.up(x.view(2, -1)))"), "cannot be run"),
        (writing("return x + ", "return x[:, :1] + "), "differs from the masked original's by"),
        (writing("return x", "x = x[None]\n        return x"), "with the shape (1, 3, "),
        (writing("return x", "return x, x"), "follows 1 and writes 2"),
    ],
)
def test_a_block_that_is_written_wrongly(use: Any, fault: Any, says: str) -> None:
    use(write_block=fault)
    message = refused(Gated(6, 10), (6,))
    assert "prunecore-gated 0.1" in message
    assert says in message


# Weights that are wrong


@pytest.mark.parametrize(
    ("transfer", "says"),
    [
        (
            lambda block, keep: keep.cut(block.scale).flip(0),
            "differs from the masked original's by",
        ),
        (lambda block, keep: block.scale.clone(), "gives scale in shape (6,)"),
    ],
    ids=["permuted", "not cut"],
)
def test_weights_that_are_transferred_wrongly(use: Any, transfer: Any, says: str) -> None:
    use(transfer_weights=lambda block, name, keep: {"scale": transfer(block, keep)})
    message = refused(Gated(6, 10), (6,))
    assert "prunecore-gated 0.1" in message
    assert says in message


# What cannot be checked


def test_a_hook_that_raises_is_named_with_the_block(use: Any) -> None:
    def raises(block: Any, inputs: Any, channels: Any) -> Any:
        raise RuntimeError("it is broken")

    use(calculate_dependencies=raises)
    message = refused(Gated(6, 10), (6,))
    hook = "prunecore_calculate_dependencies for block"
    assert f"prunecore-gated 0.1: {hook} raised RuntimeError: it is broken" in message


def test_inputs_that_the_block_cannot_take(use: Any) -> None:
    use()
    assert "cannot take a tensor of shape (5,)" in refused(Gated(6, 10), (5,))


def test_a_block_of_which_nothing_may_go(use: Any) -> None:
    def pins_all(block: Any, inputs: Any, channels: Any) -> Any:
        out = calculate(block, inputs, channels)
        channels.pin(np.arange(channels.records.count), "it is said so")
        return out

    use(calculate_dependencies=pins_all)
    message = refused(Unless(6, 10), (6,), traceable=False)
    assert "No channel of Unless was removed" in message
    assert "it is said so" in message


def test_outputs_that_are_not_finite(use: Any) -> None:
    use()
    block = Gated(6, 10)
    with torch.no_grad():
        block.down.weight[0, 0] = float("nan")
    assert "output 1 of Gated is not finite" in refused(block, (6,))


def test_outputs_that_are_always_zero(use: Any) -> None:
    class Gone(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 0

    use(
        block_types=lambda: [Gone],
        calculate_dependencies=lambda block, inputs, channels: inputs[0],
        write_block=lambda block, name, writer: BlockSource(Call("nn.Threshold", (99.0, 0.0))),
    )
    assert "Gone returns zeros for random inputs" in refused(Gone(), (6,))


# A plugin as it is installed


def l2(context: Any) -> Any:
    return np.random.default_rng(context.seed).random(context.dependencies.count)


def test_right_plugins_pass(use: Any) -> None:
    use(
        transfer_weights=lambda block, name, keep: {},
        functions=lambda: {torch.special.expit: FunctionRule(elementwise)},
        criteria=lambda: {"l2-of-gates": l2},
    )
    check_plugin("gated")
    check_plugin("toy")


def test_a_plugin_without_blocks_passes(install: Install) -> None:
    install(
        rules=family(
            block_types=None, calculate_dependencies=None, write_block=None, criteria=lambda: {}
        )
    )
    check_plugin("rules")


def wrong(name: str = "gated") -> str:
    with pytest.raises((AssertionError, PrunecoreError)) as failure:
        check_plugin(name)
    return str(failure.value)


@pytest.mark.parametrize(
    ("hooks", "says"),
    [
        ({"write_block": None}, "owns classes but has no hook prunecore_write_block."),
        ({"block_types": None}, "has prunecore_calculate_dependencies, which is never called"),
        ({"block_types": lambda: ["Gated"]}, "which is not a torch.nn.Module class"),
        ({"block_types": lambda: None}, "prunecore_block_types returned None"),
        ({"functions": lambda: [torch.cat]}, "prunecore_functions returned list"),
        ({"functions": lambda: {torch.cat: elementwise}}, "which is not a FunctionRule"),
        ({"criteria": lambda: {"L2 norm": l2}}, "a mode 'L2 norm'.\n"),
        ({"criteria": lambda: {"l2": None}}, "which cannot be called"),
        ({"criteria": lambda: {"l2": lambda context: l2(context)[1:]}}, "scores of shape (11,)"),
        ({"criteria": lambda: {"l2": lambda context: l2(context) / 0}}, "that are not finite"),
        (
            {"criteria": lambda: {"l2": lambda context: context.tensors["third"]}},
            "raised KeyError: 'third'",
        ),
        (
            {"criteria": lambda: {"l2": lambda context: l2(replace(context, seed=None))}},
            "the mode l2 scores otherwise the second time",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_plugin_that_answers_wrongly(use: Any, hooks: dict[str, Any], says: str) -> None:
    use(**hooks)
    message = wrong()
    assert "prunecore-gated 0.1" in message
    assert says in message


def test_a_plugin_that_is_not_there(use: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    use()
    assert "Unknown plugin 'gate'. Did you mean 'gated'?" in wrong("gate")
    monkeypatch.setenv(errors.BLOCK_VARIABLE, "gated")
    assert "Plugin gated is blocked." in wrong()


def test_a_plugin_that_another_is_in_the_way_of(install: Install) -> None:
    install(gated=family(), other=family())
    assert "prunecore-gated 0.1" in wrong("other")


@pytest.mark.parametrize("hidden", ["prunecore-gated 0.1", "prunecore_write_block", "block.block"])
def test_an_error_that_does_not_name_the_plugin(
    use: Any, hidden: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use()
    error = Plugin.error

    def says_less(plugin: Plugin, what: str) -> PluginError:
        return PluginError(str(error(plugin, what)).replace(hidden, ""))

    monkeypatch.setattr(Plugin, "error", says_less)
    message = wrong()
    assert message.startswith("Where prunecore_")
    assert f"the error does not name {hidden}: " in message
