"""Plugins: discovery, loading, ownership; and what is said of one that is broken."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import version
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prunecore
from prunecore import UsageError
from prunecore.channels.ids import without_channels
from prunecore.plugin import Signal
from prunecore.plugins import loading
from prunecore.plugins.loading import HOOKS, register
from prunecore.registry import Plugins

from .. import toy
from ..strangers import Block, message, module, owning


class Other(nn.Module):
    pass


# Discovery and blocking


def test_installed_plugins_are_listed_by_name_and_not_loaded(
    install: Callable[..., None],
) -> None:
    install(beta=None, alpha=None)
    assert [(p.name, p.distribution, p.version, p.blocked) for p in loading.installed()] == [
        ("alpha", "prunecore-alpha", "0.1", False),
        ("beta", "prunecore-beta", "0.1", False),
    ]
    assert str(loading.installed()[0]) == "prunecore-alpha 0.1"
    assert "installed_alpha" not in sys.modules


def test_a_blocked_plugin_is_not_loaded(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(broken=None, toy=toy)
    monkeypatch.setenv("PRUNECORE_BLOCK", " broken , ")
    assert [(p.name, p.blocked) for p in loading.installed()] == [("broken", True), ("toy", False)]
    loaded = loading.load()
    assert [plugin.name for plugin in loaded.all] == ["builtin", "toy"]
    monkeypatch.setenv("PRUNECORE_BLOCK", "broken,toy")
    assert loading.load().owner(nn.Linear) is None


def test_an_unknown_blocked_name_is_an_error_with_the_nearest(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(toy=toy, other=toy)
    monkeypatch.setenv("PRUNECORE_BLOCK", "toi")
    with pytest.raises(UsageError) as caught:
        loading.load()
    assert str(caught.value) == (
        "Unknown plugin in PRUNECORE_BLOCK 'toi'. Did you mean 'toy'?\nKnown: other, toy."
    )


def test_the_versions_of_all_that_is_loaded(toys_installed: None) -> None:
    assert loading.load().versions() == {
        "prunecore": version("prunecore"),
        "prunecore-toy": "0.1",
    }


# Loading


@pytest.mark.parametrize(
    "error", [ImportError("no module"), RuntimeError("bad"), SyntaxError("x"), SystemExit("done")]
)
def test_a_plugin_that_does_not_import(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    install(bad=None)

    class Loader:
        def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
            if name == "installed_bad":
                raise error

    monkeypatch.setattr(sys, "meta_path", [Loader(), *sys.meta_path])
    text = message(loading.load)
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
    given = Signal(torch.empty(2, 3, device="meta"), without_channels(2))
    answer = plugin.call(
        "prunecore_calculate_dependencies", "a", block=None, inputs=(given,), channels=None
    )
    assert answer is given


def test_functions_that_are_not_marked_are_no_hooks() -> None:
    made = ModuleType("made")
    made.prunecore_block_types = owning(Block)  # type: ignore[attr-defined]
    assert register(made, "toy", "toy 1").hooks == ()


def test_every_hook_has_an_example_and_says_what_it_returns() -> None:
    assert len(HOOKS) == 8
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
        "prunecore-two 1.0: prunecore_block_types names Block, as that of prunecore-one 1.0 does.\n"
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
