"""What a plugin answers, and what is said of an answer that cannot be used."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import prunecore
from prunecore import UsageError
from prunecore.channels.ids import along
from prunecore.plugin import BlockSource, Call, FunctionRule, PluginError, Signal, elementwise
from prunecore.plugins.loading import load, register
from prunecore.registry import Plugins
from prunecore.walking.network import find_dependencies

from .. import toy
from ..strangers import (
    ARGUMENTS,
    Block,
    Net,
    answering,
    hook,
    message,
    module,
    owning,
    prune_with,
    trace,
)

OF_A_BLOCK = [name for name, arguments in ARGUMENTS.items() if arguments]
REPORT = "\nReport it to the plugin's author, or block it: PRUNECORE_BLOCK=mine."


def fails(install: Callable[..., None], name: str, value: str, **names: Any) -> str:
    """What is said where one hook gives this."""
    return message(prune_with(install, **{name: answering(name, value, **names)}))


# Every hook


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
        (AssertionError(), "AssertionError: no message"),
        (RuntimeError("in one line\n  and  another."), "RuntimeError: in one line and another"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_what_a_hook_raises_is_told_with_the_plugin_the_hook_and_the_block(
    install: Callable[..., None], name: str, error: BaseException, told: str
) -> None:
    def raising(**arguments: Any) -> Any:
        raise error

    text = message(prune_with(install, **{name: hook(name, raising)}))
    where = " for blocks.0" if name in OF_A_BLOCK else ""
    assert text == f"prunecore-mine 0.1: {name}{where} raised {told}.{REPORT}"


@pytest.mark.parametrize("name", ARGUMENTS)
def test_the_cause_is_kept_for_the_traceback(install: Callable[..., None], name: str) -> None:
    job = prune_with(install, **{name: answering(name, "1 / 0")})
    with pytest.raises(PluginError) as caught:
        job()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_interrupt_passes(install: Callable[..., None], name: str) -> None:
    def interrupted(**arguments: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune_with(install, **{name: hook(name, interrupted)})()


@pytest.mark.parametrize("name", ARGUMENTS)
def test_none_is_never_an_answer(install: Callable[..., None], name: str) -> None:
    where = " for blocks.0" if name in OF_A_BLOCK else ""
    assert fails(install, name, "None") == (
        f"prunecore-mine 0.1: {name}{where} returned None.{REPORT}"
    )


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("value", ["object()", "7", "'text'", "1.5"])
def test_an_answer_of_a_wrong_type_is_never_used(
    install: Callable[..., None], name: str, value: str
) -> None:
    text = fails(install, name, value)
    where = " for blocks.0" if name in OF_A_BLOCK else ""
    assert text.startswith(f"prunecore-mine 0.1: {name}{where} ")
    assert text.endswith(f".{REPORT}")


@pytest.mark.parametrize("name", OF_A_BLOCK)
def test_where_the_network_itself_is_the_block_it_is_called_that(
    install: Callable[..., None], name: str
) -> None:
    job = prune_with(
        install,
        prunecore_block_types=owning(Net),
        **{name: answering(name, "None")},
    )
    assert f"prunecore-mine 0.1: {name} for the network returned None." in message(job)


def test_an_error_on_purpose_passes_as_it_is(install: Callable[..., None]) -> None:
    def refuse(block: Any, inputs: Any, channels: Any) -> Any:
        channels.refuse("it is shy", "Encourage it.")

    text = message(
        prune_with(install, prunecore_calculate_dependencies=refuse), prunecore.UnsupportedError
    )
    assert text.startswith("Cannot prune through blocks.0 (Block): it is shy (")
    assert text.endswith(", `return self.last(self.blocks(self.first(x)))`).\nEncourage it.")


def test_an_owner_without_the_hook_that_is_needed(install: Callable[..., None]) -> None:
    install(toy=toy, mine=module(prunecore_block_types=owning(Block)))
    assert message(lambda: prunecore.prune(Net(), level=30, input_shape=(3,))) == (
        "prunecore-mine 0.1 owns the class of blocks.0 but has no hook "
        "prunecore_calculate_dependencies.\n"
        "Install a complete version of it, or block it: PRUNECORE_BLOCK=mine."
    )


def test_a_complete_plugin_of_traced_blocks_works(install: Callable[..., None]) -> None:
    assert prune_with(install)().report["plugins"]["prunecore-mine"] == "0.1"


# Block types


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("Block", "returned type, not a sequence of classes"),
        ("(cls for cls in [Block])", "returned generator, not a sequence of classes"),
        ("['Block']", "names 'Block', which is not a torch.nn.Module class"),
        ("[Block, int]", "names <class 'int'>, which is not a torch.nn.Module class"),
        ("[None]", "names None, which is not a torch.nn.Module class"),
        ("[nn.ReLU()]", "names ReLU(), which is not a torch.nn.Module class"),
    ],
)
def test_what_is_no_sequence_of_module_classes(
    install: Callable[..., None], value: str, told: str
) -> None:
    text = fails(install, "prunecore_block_types", value, nn=nn)
    assert text == f"prunecore-mine 0.1: prunecore_block_types {told}.{REPORT}"


@pytest.mark.parametrize("value", ["[Block]", "(Block,)", "{Block}", "{Block: 1}.keys()"])
def test_classes_in_any_collection(install: Callable[..., None], value: str) -> None:
    name = "prunecore_block_types"
    assert prune_with(install, **{name: answering(name, value)})().report


# Dependencies


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("block.linear", "returned Linear, not a Signal for each tensor"),
        ("inputs[0].ids", "returned ndarray, not a Signal for each tensor"),
        ("inputs[0].meta", "returned Tensor, not a Signal for each tensor"),
        ("[inputs[0]] * 0", "returned list, not a Signal for each tensor"),
        ("(None, 3)", "returned tuple, not a Signal for each tensor"),
        ("(inputs[0], inputs[0].meta)", "returned Tensor, not a Signal for each tensor"),
        (
            "Signal(inputs[0].meta, along(1, 2, np.arange(90, 94)))",
            "returned ids from 90 to 93; handed out are those from 0 to 3",
        ),
        (
            "(inputs[0], Signal(inputs[0].meta, along(1, 2, np.array([0, 1, -2, 3]))))",
            "returned ids from -2 to 3; handed out are those from 0 to 3",
        ),
    ],
)
def test_what_does_not_stand_for_tensors(
    install: Callable[..., None], value: str, told: str
) -> None:
    name = "prunecore_calculate_dependencies"
    text = fails(install, name, value, Signal=Signal, along=along, np=np)
    assert text == f"prunecore-mine 0.1: {name} for blocks.0 {told}.{REPORT}"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            "Signal(inputs[0].meta, np.zeros((1, 5), dtype=np.int64))",
            "ValueError: ids of shape (1, 5) do not fit a tensor of shape (2, 4): along each axis "
            "there are as many as the tensor has places, or one",
        ),
        (
            "Signal(inputs[0].meta, np.zeros(4, dtype=np.int64))",
            "ValueError: ids of shape (4,) do not fit a tensor of shape (2, 4): along each axis "
            "there are as many as the tensor has places, or one",
        ),
        (
            "Signal(inputs[0].meta, inputs[0].ids.astype(float))",
            "TypeError: the ids of a Signal are not an array of int64",
        ),
        (
            "Signal(inputs[0].meta, [[0, 1, 2, 3]])",
            "TypeError: the ids of a Signal are not an array of int64",
        ),
        (
            "Signal(block.linear.weight, inputs[0].ids)",
            "TypeError: the tensor that a Signal stands for is not on the meta device",
        ),
        (
            "channels.bind(block.linear.weight, 0, np.arange(3))",
            "ValueError: axis 0 of a tensor of shape (4, 4) cannot be bound to ids of shape (3,)",
        ),
        (
            "channels.through(block.linear, inputs[0].meta)",
            "TypeError: blocks.0.linear is called with Tensor, not a Signal",
        ),
        ("channels.through(nn.ReLU(), *inputs)", "ValueError: ReLU is not a module of the network"),
    ],
)
def test_what_goes_wrong_within_the_calculation(
    install: Callable[..., None], value: str, told: str
) -> None:
    name = "prunecore_calculate_dependencies"
    text = fails(install, name, value, Signal=Signal, np=np, nn=nn)
    assert text.startswith(f"prunecore-mine 0.1: {name} for blocks.0 raised {told}")
    assert text.endswith(REPORT)


def test_a_weight_that_is_bound_to_ids_of_its_own(install: Callable[..., None]) -> None:
    name = "prunecore_calculate_dependencies"
    value = "channels.bind(block.linear.weight, 0, np.arange(90, 94)) or inputs[0]"
    assert fails(install, name, value, np=np) == (
        f"prunecore-mine 0.1: {name} for blocks.0 binds blocks.0.linear.weight to ids that were "
        f"not handed out: 6 were.{REPORT}"
    )


@pytest.mark.parametrize("value", ["(trace(block, inputs, channels), None)", "[inputs[0], 3]"])
def test_other_values_may_stand_beside_tensors(install: Callable[..., None], value: str) -> None:
    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block, self.last = Block(), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.block(x)[0])

    plugin = register(
        module(
            prunecore_block_types=owning(Block),
            prunecore_calculate_dependencies=answering(
                "prunecore_calculate_dependencies", value, trace=trace
            ),
        ),
        "mine",
        "mine 1",
    )
    install(toy=toy)
    found = load().all
    x = torch.empty(2, 4, device="meta")
    assert find_dependencies(First(), [x], Plugins([*found, plugin])).forwards.visits


# Writing


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("'nn.Linear(3, 4)'", "returned str, not a BlockSource"),
        ("Call('nn.Identity')", "returned Call, not a BlockSource"),
        (
            "BlockSource('nn.Linear(3, 4)')",
            "gives 'nn.Linear(3, 4)' as the constructor call, which is not a Call",
        ),
        ("BlockSource(None)", "gives None as the constructor call, which is not a Call"),
        (
            "BlockSource(Call('A'), 'class A: pass')",
            "gives 'class A: pass' as definitions, not texts by name",
        ),
        (
            "BlockSource(Call('A'), {'A': None})",
            "gives {'A': None} as definitions, not texts by name",
        ),
        (
            "BlockSource(Call('A'), imports='import math')",
            "gives 'import math' as imports, not a set of lines",
        ),
        ("BlockSource(Call('A'), imports={3})", "gives {3} as imports, not a set of lines"),
        (
            "BlockSource(writer.child(nn.ReLU(), name))",
            "raised ValueError: ReLU is not a module of the network",
        ),
        (
            "BlockSource(writer.child(block.linear, name))",
            "raised ValueError: blocks.0.linear is written as blocks.0, which is another module",
        ),
        (
            "BlockSource(writer.child(block.linear, name + '.lin'))",
            "raised AttributeError: Block has no attribute `lin`",
        ),
    ],
)
def test_what_is_not_the_source_of_a_block(
    install: Callable[..., None], value: str, told: str
) -> None:
    name = "prunecore_write_block"
    text = fails(install, name, value, BlockSource=BlockSource, Call=Call, nn=nn)
    assert text == f"prunecore-mine 0.1: {name} for blocks.0 {told}.{REPORT}"


# Weights


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            "block.linear.weight",
            "returned Parameter, not tensors by the keys of the block's state",
        ),
        ("{'weight': block.linear.weight}", "gives 'weight', which the block's state does not"),
        ("{None: block.linear.weight}", "gives None, which the block's state does not have"),
        ("{'linear.weight': 3}", "gives int for linear.weight, not a tensor"),
        ("{'linear.weight': None}", "gives NoneType for linear.weight, not a tensor"),
        (
            "{'linear.weight': block.linear.weight}",
            "gives linear.weight in shape (4, 4) of torch.float32; kept of it is the shape "
            "(2, 3) of torch.float32",
        ),
        (
            "{'linear.bias': keep.cut(block.linear.bias).double()}",
            "gives linear.bias in shape (2,) of torch.float64; kept of it is the shape (2,) of "
            "torch.float32",
        ),
        ("{'linear.bias': keep.cut(block.linear.bias)[None]}", "in shape (1, 2) of torch.float32"),
    ],
)
def test_what_are_not_the_weights_of_a_block(
    install: Callable[..., None], value: str, told: str
) -> None:
    text = fails(install, "prunecore_transfer_weights", value)
    assert text.startswith("prunecore-mine 0.1: prunecore_transfer_weights for blocks.0 ")
    assert told in text
    assert text.endswith(REPORT)


# Functions


class WithFunctions(nn.Module):
    """Calls a function that the core has no rule for, within a module."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(Expit())
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(self.first(x)))


class Expit(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.expit(x)


def with_rule(install: Callable[..., None], rule: Any) -> Callable[[], Any]:
    return prune_with(
        install, WithFunctions, prunecore_functions=lambda: {torch.special.expit: rule}
    )


def test_a_plugin_gives_a_rule_for_a_function(install: Callable[..., None]) -> None:
    assert "torch.special.expit(x)" in with_rule(install, FunctionRule(elementwise))().source


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("[expit]", "returned list, not a mapping of functions to rules"),
        ("{expit: elementwise}", "gives <function elementwise"),
        ("{expit: None}", "gives None for special_expit, which is not a FunctionRule"),
    ],
)
def test_what_are_no_rules(install: Callable[..., None], value: str, told: str) -> None:
    text = fails(
        install,
        "prunecore_functions",
        value,
        expit=torch.special.expit,
        elementwise=elementwise,
    )
    assert text.startswith(f"prunecore-mine 0.1: prunecore_functions {told}")
    assert text.endswith(REPORT)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("1 / 0", "raised ZeroDivisionError: division by zero"),
        ("operation.tensor.width", "raised AttributeError: 'Signal' object has no attribute"),
        ("sys.exit(2)", "raised SystemExit: 2"),
        ("None", "returned None"),
        ("operation.run(channels)", "returned Tensor, not a Signal for each tensor"),
        ("(operation.tensor, operation.tensor.ids)", "returned ndarray, not a Signal for each"),
        ("Signal(operation.tensor.meta, np.array([[77]]))", "returned ids from 77 to 77; handed"),
        ("Signal(operation.tensor.meta, np.array([7]))", "raised ValueError: ids of shape (1,) do"),
    ],
)
def test_a_rule_that_goes_wrong_names_its_plugin_and_the_module(
    install: Callable[..., None], value: str, told: str
) -> None:
    def calculate(channels: Any, operation: Any) -> Any:
        return eval(value, globals(), {"channels": channels, "operation": operation})

    text = message(with_rule(install, FunctionRule(calculate)))
    rule = "the rule for special_expit of prunecore_functions"
    assert text.startswith(f"prunecore-mine 0.1: {rule} in inner.0 {told}")
    assert text.endswith(REPORT)


def test_a_rule_that_refuses_is_heard(install: Callable[..., None]) -> None:
    def calculate(channels: Any, operation: Any) -> Any:
        channels.refuse("it is shy", "Encourage it.")

    text = message(with_rule(install, FunctionRule(calculate)), prunecore.UnsupportedError)
    assert text.startswith("Cannot prune through inner.0 (Expit): it is shy (")
    assert text.endswith(", `return torch.special.expit(x)`).\nEncourage it.")


def test_a_rule_of_the_core_refuses_what_it_cannot_read(install: Callable[..., None]) -> None:
    class Odd(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x).softmax(dim="N"))

    text = message(prune_with(install, Odd), prunecore.UnsupportedError)
    assert "(Odd): its forward calls softmax in a form that its rule cannot read" in text


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("1 / 0", "raised ZeroDivisionError: division by zero"),
        ("None", "returned None, not arguments and keywords"),
        ("((), {}, 3)", "returned ((), {}, 3), not arguments and keywords"),
        ("([], {})", "returned ([], {}), not arguments and keywords"),
    ],
)
def test_a_rewrite_that_goes_wrong_names_its_plugin_and_the_module(
    install: Callable[..., None], value: str, told: str
) -> None:
    rule = FunctionRule(elementwise, lambda arguments, result, keep: eval(value))
    text = message(with_rule(install, rule))
    assert text.startswith(
        "prunecore-mine 0.1: the rule for special_expit of prunecore_functions in inner.0 " + told
    )
    assert text.endswith(REPORT)


# Criteria


def with_criterion(
    install: Callable[..., None], criterion: Any, name: str = "my-own", mode: str = "my-own"
) -> Callable[[], Any]:
    install(toy=toy, mine=module(prunecore_criteria=lambda: {name: criterion}))
    return lambda: prunecore.prune(Net(), level=30, input_shape=(3,), mode=mode)


def last_first(context: Any) -> Any:
    return -np.arange(context.dependencies.count)


@pytest.mark.parametrize("name", ["last-first", "last_first"])
@pytest.mark.parametrize("mode", ["last-first", "last_first"])
def test_a_plugin_gives_criteria(install: Callable[..., None], name: str, mode: str) -> None:
    small = with_criterion(install, last_first, name, mode)()
    kept = small.report["kept"]
    assert "first.bias" not in kept
    assert kept["blocks.0.linear.bias"] == [[0, 1, 2]]
    assert kept["blocks.1.linear.bias"] == [[0, 1]]
    with pytest.raises(UsageError, match=r"Did you mean 'last-first'\?"):
        prunecore.prune(Net(), level=30, input_shape=(3,), mode="last-fist")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("['l2']", "returned list, not a mapping of names to criteria"),
        ("{3: len}", "names a criterion 3, which is not a name"),
        ("{'': len}", "names a criterion '', which is not a name"),
        ("{'l2': None}", "gives None for l2, which cannot be called"),
        (
            "{'l2': lambda dependencies, tensors, seed: 0}",
            "gives l2 with the arguments (dependencies, tensors, seed); a criterion takes one, a "
            "ScoringContext, and reads dependencies, tensors, seed, model, images, linear_maps and "
            "scoring of it",
        ),
        (
            "{'l2': lambda: 0}",
            "gives l2 with the arguments (); a criterion takes one, a ScoringContext, and reads "
            "dependencies, tensors, seed, model, images, linear_maps and scoring of it",
        ),
        ("{'l2-norm': len, 'l2_norm': len}", "gives l2-norm twice"),
        ("{'l2-norm': len, 'L2-norm': len}", "gives l2-norm twice"),
    ],
)
def test_what_are_no_criteria(install: Callable[..., None], value: str, told: str) -> None:
    text = fails(install, "prunecore_criteria", value)
    assert text == f"prunecore-mine 0.1: prunecore_criteria {told}.{REPORT}"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("1 / 0", "raised ZeroDivisionError: division by zero"),
        ("sys.exit()", "raised SystemExit: "),
        ("None", "returned NoneType, not an array of real numbers"),
        ("[0.0] * dependencies.count", "returned list, not an array of real numbers"),
        ("torch.rand(dependencies.count)", "returned Tensor, not an array of real numbers"),
        ("np.zeros(dependencies.count, dtype=complex)", "returned complex128, not an array of"),
        ("np.array(['a'] * dependencies.count)", "returned <U1, not an array of real numbers"),
        ("np.zeros(3)", "returned scores of shape (3,), not one for each of the 14 channels"),
        ("np.zeros((14, 1))", "returned scores of shape (14, 1), not one for each of the 14"),
        ("np.float64(1)", "returned float64, not an array of real numbers"),
        ("np.full(14, np.nan)", "returned scores that are not numbers (NaN)"),
    ],
)
def test_a_criterion_that_goes_wrong_names_its_plugin(
    install: Callable[..., None], value: str, told: str
) -> None:
    def criterion(context: Any) -> Any:
        return eval(value, globals(), {"dependencies": context.dependencies})

    text = message(with_criterion(install, criterion))
    what = "the criterion my-own of prunecore_criteria"
    assert text.startswith(f"prunecore-mine 0.1: {what} {told}")
    assert text.endswith(REPORT)
    assert sys.exit is not None  # the names that the expressions use


# Two plugins that disagree


@pytest.mark.parametrize(
    ("name", "given", "shown"),
    [
        ("prunecore_criteria", {"l1-norm": len}, "l1-norm"),
        ("prunecore_criteria", {"l1_norm": len}, "l1-norm"),
        ("prunecore_criteria", {"L1-norm": len}, "L1-norm"),
        ("prunecore_functions", {torch.relu: FunctionRule(elementwise)}, "relu"),
        ("prunecore_functions", {operator.add: FunctionRule(elementwise)}, "add"),
    ],
)
def test_what_the_core_gives_no_plugin_gives(
    install: Callable[..., None], name: str, given: Any, shown: str
) -> None:
    install(toy=toy, mine=module(**{name: lambda: given}))
    assert message(lambda: prunecore.prune(Net(), level=30, input_shape=(3,))) == (
        f"prunecore-mine 0.1: {name} gives {shown}, as that of prunecore {version('prunecore')} "
        "does.\n"
        "Block one of them: PRUNECORE_BLOCK=mine."
    )


@pytest.mark.parametrize(
    ("name", "first", "second", "shown"),
    [
        ("prunecore_criteria", {"l3-norm": len}, {"l3-norm": len}, "gives l3-norm"),
        ("prunecore_criteria", {"l3-norm": len}, {"l3_norm": len}, "gives l3-norm"),
        ("prunecore_criteria", {"l3-norm": len}, {"L3-norm": len}, "gives L3-norm"),
        (
            "prunecore_functions",
            {torch.special.expit: FunctionRule(elementwise)},
            {torch.special.expit: FunctionRule(elementwise)},
            "gives special_expit",
        ),
        ("prunecore_block_types", [Block], [Net, Block], "names Block"),
    ],
)
def test_two_plugins_that_disagree_are_both_named_before_any_work(
    install: Callable[..., None], name: str, first: Any, second: Any, shown: str
) -> None:
    install(
        toy=toy,
        mine=module(**{name: lambda: first}),
        other=module(**{name: lambda: second}),
    )
    assert message(load) == (
        f"prunecore-other 0.1: {name} {shown}, as that of prunecore-mine 0.1 does.\n"
        "Block one of them: PRUNECORE_BLOCK=mine or PRUNECORE_BLOCK=other."
    )
