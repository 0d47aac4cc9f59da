"""Plugins: discovery, loading, ownership; and what is said of one that is broken."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import prunecore
from prunecore import PluginError, UsageError, hookimpl, plugins
from prunecore.plugins import HOOKS, Plugins, register

from . import toy


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class Other(nn.Module):
    pass


def module(**hooks: Callable[..., Any]) -> ModuleType:
    made = ModuleType("made")
    for name, function in hooks.items():
        setattr(made, name, hookimpl(function))
    return made


def owning(*block_types: type[nn.Module]) -> Callable[[], Iterable[type[nn.Module]]]:
    def prunecore_block_types() -> Iterable[type[nn.Module]]:
        return list(block_types)

    return prunecore_block_types


def message(job: Callable[[], Any]) -> str:
    with pytest.raises(PluginError) as caught:
        job()
    text = str(caught.value)
    assert len(text.splitlines()) == 2  # what and where; what to do
    return text


# Discovery and blocking


def test_installed_plugins_are_listed_by_name_and_not_loaded(
    install: Callable[..., None],
) -> None:
    install(beta=None, alpha=None)
    assert [(p.name, p.distribution, p.version, p.blocked) for p in plugins.installed()] == [
        ("alpha", "prunecore-alpha", "0.1", False),
        ("beta", "prunecore-beta", "0.1", False),
    ]
    assert str(plugins.installed()[0]) == "prunecore-alpha 0.1"
    assert "installed_alpha" not in sys.modules


def test_a_blocked_plugin_is_not_loaded(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(broken=None, toy=toy)
    monkeypatch.setenv("PRUNECORE_BLOCK", " broken , ")
    assert [(p.name, p.blocked) for p in plugins.installed()] == [("broken", True), ("toy", False)]
    loaded = plugins.load()
    assert [plugin.name for plugin in loaded.all] == ["functions", "importance", "toy"]
    monkeypatch.setenv("PRUNECORE_BLOCK", "broken,toy")
    assert plugins.load().owner(nn.Linear) is None


def test_an_unknown_blocked_name_is_an_error_with_the_nearest(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(toy=toy, other=toy)
    monkeypatch.setenv("PRUNECORE_BLOCK", "toi")
    with pytest.raises(UsageError) as caught:
        plugins.load()
    assert str(caught.value) == (
        "Unknown plugin in PRUNECORE_BLOCK 'toi'. Did you mean 'toy'?\nKnown: other, toy."
    )


def test_the_versions_of_all_that_is_loaded(toys_installed: None) -> None:
    assert plugins.load().versions() == {
        "prunecore": version("prunecore"),
        "prunecore-toy": "0.1",
    }


# Loading


@pytest.mark.parametrize("error", [ImportError("no module"), RuntimeError("bad"), SyntaxError("x")])
def test_a_plugin_that_does_not_import(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    install(bad=None)

    class Loader:
        def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
            if name == "installed_bad":
                raise error

    monkeypatch.setattr(sys, "meta_path", [Loader(), *sys.meta_path])
    text = message(plugins.load)
    assert text == (
        f"Failed to load plugin bad (prunecore-bad 0.1): {type(error).__name__}: {error}\n"
        f"Reinstall it in a version that fits prunecore {version('prunecore')}, or block it: "
        "PRUNECORE_BLOCK=bad."
    )


def test_a_misspelt_hook_is_an_error_with_the_nearest() -> None:
    made = module(prunecore_block_type=owning(Block))
    text = message(lambda: register(made, "toy", "prunecore-toy 0.1"))
    assert text == (
        "Plugin toy (prunecore-toy 0.1) has a hook that prunecore does not: "
        "prunecore_block_type. Did you mean prunecore_block_types?\n"
        "Correct it, or block the plugin: PRUNECORE_BLOCK=toy."
    )


def test_a_hook_with_an_argument_that_it_does_not_have() -> None:
    def prunecore_write_block(block: Any, name: str, width: int) -> None: ...

    made = module(prunecore_write_block=prunecore_write_block)
    text = message(lambda: register(made, "toy", "prunecore-toy 0.1"))
    assert "Plugin toy (prunecore-toy 0.1)" in text
    assert "width" in text


def test_a_hook_may_leave_out_arguments_that_it_does_not_need() -> None:
    def prunecore_calculate_dependencies(inputs: Any) -> Any:
        return inputs[0]

    plugin = register(
        module(
            prunecore_calculate_dependencies=prunecore_calculate_dependencies,
            prunecore_block_types=owning(Block),
        ),
        "toy",
        "toy 1",
    )
    assert plugin.hooks == ("prunecore_block_types", "prunecore_calculate_dependencies")
    answer = plugin.call(
        "prunecore_calculate_dependencies", "a", block=None, inputs=(7,), channels=None
    )
    assert answer == 7


def test_functions_that_are_not_marked_are_no_hooks() -> None:
    made = ModuleType("made")
    made.prunecore_block_types = owning(Block)  # type: ignore[attr-defined]
    assert register(made, "toy", "toy 1").hooks == ()


def test_every_hook_has_an_example_and_says_what_it_returns() -> None:
    assert len(HOOKS) == 6
    for hook in HOOKS:
        text = getattr(prunecore.hookspecs, hook).__doc__
        assert f"def {hook}(" in text
        assert "@hookimpl" in text
        assert "Returns:" in text


# Ownership


def own(**owned: list[type[nn.Module]]) -> Plugins:
    return Plugins(
        [
            register(module(prunecore_block_types=owning(*types)), name, f"prunecore-{name} 1.0")
            for name, types in owned.items()
        ]
    )


def test_two_plugins_that_own_one_class_are_an_error_that_names_both() -> None:
    text = message(lambda: own(one=[Block], two=[Other, Block]))
    assert text == (
        "prunecore-one 1.0 and prunecore-two 1.0 both own Block.\n"
        "Block one of them: PRUNECORE_BLOCK=one or PRUNECORE_BLOCK=two."
    )


def test_a_plugin_may_name_a_class_twice() -> None:
    owner = own(one=[Block, Block]).owner(Block)
    assert owner is not None
    assert owner.name == "one"


class OnlyConstructs(Block):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.width = width


class Overrides(Block):
    def forward(self, x: Tensor) -> Tensor:
        return -x


class OverridesBetween(Overrides):
    def __init__(self) -> None:
        super().__init__()


class AddsMethods(Block):
    extra = 3

    def helper(self) -> None: ...


@pytest.mark.parametrize(
    ("block_type", "is_owned"),
    [
        (Block, True),
        (OnlyConstructs, True),
        (AddsMethods, True),
        (Overrides, False),
        (OverridesBetween, False),
        (Other, False),
        (nn.Module, False),
    ],
)
def test_a_class_that_overrides_nothing_is_owned_with_its_base(
    block_type: type[nn.Module], is_owned: bool
) -> None:
    assert (own(one=[Block]).owner(block_type) is not None) is is_owned


def test_the_nearest_owner_counts() -> None:
    both = own(one=[Block], two=[Overrides])
    owners = [both.owner(cls) for cls in (OverridesBetween, Overrides, OnlyConstructs)]
    assert [owner and owner.name for owner in owners] == ["two", "two", "one"]


def test_a_class_that_is_owned_later_is_found_by_the_next_job() -> None:
    classes: list[type[nn.Module]] = []
    made = register(module(prunecore_block_types=lambda: classes), "one", "one 1")
    assert Plugins([made]).owner(Block) is None
    classes.append(Block)
    assert Plugins([made]).owner(Block) is made


# What hooks answer


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.blocks = nn.Sequential(Block(), Block())
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.blocks(self.first(x)))


def prune_with(install: Callable[..., None], **hooks: Callable[..., Any]) -> Callable[[], Any]:
    install(toy=toy, mine=module(prunecore_block_types=owning(Block), **hooks))
    return lambda: prunecore.prune(Net(), 30, (3,), verify=False)


def write(block: Any, name: str, writer: Any) -> Any:
    return writer.trace(block, name)


def trace(block: Any, inputs: Any, channels: Any) -> Any:
    return channels.trace(block, *inputs)


def raising(*arguments: str) -> Any:
    scope: dict[str, Any] = {}
    exec(f"def hook({', '.join(arguments)}): raise ZeroDivisionError('by zero')", scope)
    return scope["hook"]


def answering(value: str, *arguments: str) -> Any:
    scope: dict[str, Any] = {}
    exec(f"def hook({', '.join(arguments)}): return {value}", scope)
    return scope["hook"]


CALCULATE = ("block", "inputs", "channels")
WRITE = ("block", "name", "writer")
TRANSFER = ("block", "name", "keep")


@pytest.mark.parametrize(
    ("hook", "arguments", "others"),
    [
        ("prunecore_calculate_dependencies", CALCULATE, {}),
        ("prunecore_write_block", WRITE, {"prunecore_calculate_dependencies": trace}),
        (
            "prunecore_transfer_weights",
            TRANSFER,
            {"prunecore_calculate_dependencies": trace, "prunecore_write_block": write},
        ),
    ],
)
def test_what_a_hook_raises_for_a_block_is_reported_with_all_that_helps(
    install: Callable[..., None], hook: str, arguments: tuple[str, ...], others: dict[str, Any]
) -> None:
    text = message(prune_with(install, **{hook: raising(*arguments)}, **others))
    assert text.startswith(
        f"prunecore-mine 0.1: {hook} raised ZeroDivisionError for blocks.0: by zero"
    )
    assert text.endswith("or block it: PRUNECORE_BLOCK=mine.")
    text = message(prune_with(install, **{hook: answering("None", *arguments)}, **others))
    assert text.startswith(f"prunecore-mine 0.1: {hook} returned None for blocks.0, a block of a ")


@pytest.mark.parametrize(
    "hook", ["prunecore_block_types", "prunecore_functions", "prunecore_criteria"]
)
def test_what_a_hook_without_a_block_raises_is_reported(
    install: Callable[..., None], hook: str
) -> None:
    install(toy=toy, mine=module(**{hook: raising()}))
    text = message(lambda: prunecore.prune(Net(), 30, (3,)))
    assert text.startswith(f"prunecore-mine 0.1: {hook} raised ZeroDivisionError: by zero")
    install(toy=toy, mine=module(**{hook: answering("None")}))
    text = message(lambda: prunecore.prune(Net(), 30, (3,)))
    assert text.startswith(f"prunecore-mine 0.1: {hook} returned None.")


def test_an_owner_without_the_hook_that_is_needed(install: Callable[..., None]) -> None:
    text = message(prune_with(install))
    assert text == (
        "prunecore-mine 0.1 owns the class of blocks.0 but has no hook "
        "prunecore_calculate_dependencies.\n"
        "Install a complete version of it, or block it: PRUNECORE_BLOCK=mine."
    )


def test_an_answer_of_a_wrong_type_is_reported(install: Callable[..., None]) -> None:
    text = message(
        prune_with(
            install,
            prunecore_calculate_dependencies=trace,
            prunecore_write_block=answering("'nn.Linear(3, 4)'", *WRITE),
        )
    )
    assert text.startswith(
        "prunecore-mine 0.1: prunecore_write_block returned str for blocks.0, not a BlockSource."
    )


@pytest.mark.parametrize("value", ["block.linear", "inputs[0].ids", "7", "[inputs[0]] * 0"])
def test_ids_of_a_wrong_type_are_reported(install: Callable[..., None], value: str) -> None:
    text = message(
        prune_with(install, prunecore_calculate_dependencies=answering(value, *CALCULATE))
    )
    assert "prunecore-mine 0.1" in text
    assert "prunecore_calculate_dependencies" in text
    assert "blocks.0" in text


@pytest.mark.parametrize(
    "value", ["block.linear.weight", "{'linear.weight': 3}", "{'other': None}"]
)
def test_weights_of_a_wrong_type_are_reported(install: Callable[..., None], value: str) -> None:
    text = message(
        prune_with(
            install,
            prunecore_calculate_dependencies=trace,
            prunecore_write_block=write,
            prunecore_transfer_weights=answering(value, *TRANSFER),
        )
    )
    assert "prunecore-mine 0.1" in text
    assert "prunecore_transfer_weights" in text
    assert "blocks.0" in text


def test_a_complete_plugin_of_traced_blocks_works(install: Callable[..., None]) -> None:
    job = prune_with(install, prunecore_calculate_dependencies=trace, prunecore_write_block=write)
    assert job().report["plugins"]["prunecore-mine"] == "0.1"


def test_an_error_on_purpose_passes_as_it_is(install: Callable[..., None]) -> None:
    def refuse(block: Any, inputs: Any, channels: Any) -> Any:
        channels.refuse("it is shy", "Encourage it.")

    with pytest.raises(prunecore.UnsupportedError) as caught:
        prune_with(install, prunecore_calculate_dependencies=refuse)()
    assert str(caught.value) == ("Cannot prune through blocks.0 (Block): it is shy.\nEncourage it.")


# Functions and criteria of all plugins together


def test_a_plugin_gives_criteria(install: Callable[..., None]) -> None:
    def last_first(dependencies: Any, tensors: Any, seed: int) -> Any:
        return -np.arange(dependencies.count, dtype=float)

    def prunecore_criteria() -> Any:
        return {"last-first": last_first}

    install(toy=toy, mine=module(prunecore_criteria=prunecore_criteria))
    small = prunecore.prune(Net(), 30, (3,), mode="last_first")
    kept = small.report["kept"]
    assert "first.bias" not in kept
    assert kept["blocks.0.linear.bias"] == [[0, 1, 2]]
    assert kept["blocks.1.linear.bias"] == [[0, 1]]
    with pytest.raises(UsageError, match=r"Did you mean 'last-first'\?"):
        prunecore.prune(Net(), 30, (3,), mode="last-fist")


@pytest.mark.parametrize(
    ("hook", "key", "shown"),
    [
        ("prunecore_criteria", "l1-norm", "l1-norm"),
        ("prunecore_functions", torch.relu, "relu"),
    ],
)
def test_two_plugins_that_give_the_same_are_an_error_that_names_both(
    install: Callable[..., None], hook: str, key: Any, shown: str
) -> None:
    install(toy=toy, mine=module(**{hook: lambda: {key: None}}))
    text = message(lambda: prunecore.prune(Net(), 30, (3,)))
    assert text == (
        f"prunecore {version('prunecore')} and prunecore-mine 0.1 both give {shown} in {hook}.\n"
        "Block one of them: PRUNECORE_BLOCK=mine."
    )
