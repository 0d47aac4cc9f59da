"""`prunecore plugins`: a list from metadata, and a check that a broken plugin does not stop."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from click.testing import CliRunner, Result
from torch import nn

from prunecore import errors
from prunecore.cli.main import main
from prunecore.plugin import hookimpl
from prunecore.plugins import loading


class Block(nn.Module):
    pass


class Distribution:
    def __init__(self, name: str) -> None:
        self.name = name
        self.metadata = {"Name": name, "Version": "1.2"}
        self.version = "1.2"
        self.requires: list[str] = []


Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Make modules of these names the only plugins that are installed."""

    def install(**modules: dict[str, Any] | None) -> None:
        points = []
        for name, hooks in modules.items():
            point = EntryPoint(name, f"fake_{name}", errors.GROUP)
            vars(point).update(dist=Distribution(f"prunecore-{name}"))
            points.append(point)
            if hooks is not None:
                module = types.ModuleType(f"fake_{name}")
                vars(module).update(hooks)
                monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(
            loading, "entry_points", lambda group: [one for one in points if one.group == group]
        )
        loading._load_installed.cache_clear()

    monkeypatch.delenv(errors.BLOCK_VARIABLE, raising=False)
    yield install
    loading._load_installed.cache_clear()


def owning(*block_types: type[nn.Module]) -> dict[str, Any]:
    @hookimpl
    def prunecore_block_types() -> Iterable[type[nn.Module]]:
        return list(block_types)

    return {"prunecore_block_types": prunecore_block_types}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["plugins", *arguments])


def test_the_list_is_read_without_loading(install: Install) -> None:
    install(good=owning(Block), broken=None)
    result = run()
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["broken", "prunecore-broken", "1.2"],
        ["good", "prunecore-good", "1.2"],
    ]


def test_no_plugin_at_all(install: Install) -> None:
    install()
    result = run()
    assert (result.exit_code, result.stdout) == (0, "")
    assert "prunecore[all]" in result.stderr


def test_a_blocked_plugin_is_marked_and_not_loaded(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(good=owning(Block), broken=None)
    monkeypatch.setenv(errors.BLOCK_VARIABLE, "broken")
    assert run().stdout.splitlines()[0].split() == ["broken", "prunecore-broken", "1.2", "blocked"]
    result = run("--check")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].endswith("blocked")


def test_an_unknown_blocked_name_is_wrong_usage(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(good=owning(Block))
    monkeypatch.setenv(errors.BLOCK_VARIABLE, "goood")
    result = run()
    assert result.exit_code == 2
    assert "'goood'. Did you mean 'good'?" in result.stderr


def test_a_check_names_blocks_and_hooks(install: Install) -> None:
    install(good=owning(Block))
    result = run("--check")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "good             prunecore-good 1.2  ok",
        "  blocks: Block",
        "  hooks: prunecore_block_types",
    ]


def raising() -> None:
    raise RuntimeError("it is broken")


def test_a_broken_plugin_does_not_hide_the_others(install: Install) -> None:
    misspelt = {"prunecore_block_typs": hookimpl(lambda: [])}
    install(
        absent=None,
        good=owning(Block),
        misspelt=misspelt,
        nothing={"prunecore_block_types": hookimpl(lambda: None)},
        raising={"prunecore_block_types": hookimpl(raising)},
    )
    result = run("--check")
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    for line in (
        "absent           prunecore-absent 1.2  failed: Failed to load plugin absent",
        "good             prunecore-good 1.2  ok",
        "misspelt         prunecore-misspelt 1.2  failed: ",
        "nothing          prunecore-nothing 1.2  failed: ",
        "raising          prunecore-raising 1.2  failed: ",
    ):
        assert line in result.stdout
    assert "prunecore_block_types raised RuntimeError: it is broken" in result.stdout
    assert "prunecore_block_types returned None" in result.stdout


@pytest.mark.parametrize(
    ("hook", "value", "told"),
    [
        ("prunecore_block_types", [int], "names <class 'int'>, which is not a torch.nn.Module"),
        ("prunecore_functions", {len: 3}, "gives 3 for len, which is not a FunctionRule"),
        ("prunecore_criteria", {"l2": 3}, "gives 3 for l2, which cannot be called"),
    ],
)
def test_whatever_can_be_asked_is_checked(
    install: Install, hook: str, value: Any, told: str
) -> None:
    def answer() -> Any:
        return value

    install(wrong={hook: hookimpl(answer)})
    result = run("--check")
    assert result.exit_code == 1
    assert f"failed: prunecore-wrong 1.2: {hook} {told}" in result.stdout


def test_a_plugin_that_exits_is_one_that_fails(install: Install) -> None:
    install(leaving={"prunecore_criteria": hookimpl(lambda: sys.exit(0))}, good=owning(Block))
    result = run("--check")
    assert result.exit_code == 1
    assert "prunecore-leaving 1.2: prunecore_criteria raised SystemExit: 0." in result.stdout
    assert "good             prunecore-good 1.2  ok" in result.stdout


def test_two_that_own_one_class_fail_together(install: Install) -> None:
    install(first=owning(Block), second=owning(Block))
    result = run("--check")
    assert result.exit_code == 1
    assert (
        "prunecore-second 1.2: prunecore_block_types names Block, as that of prunecore-first 1.2 "
        "does.\nBlock one of them: PRUNECORE_BLOCK=first or PRUNECORE_BLOCK=second."
    ) in result.stderr


def test_json_is_an_object_a_line(install: Install) -> None:
    install(good=owning(Block), broken=None)
    listed = {
        "blocked": False,
        "distribution": "prunecore-good",
        "kind": "plugin",
        "name": "good",
        "version": "1.2",
    }
    assert json.loads(run("--json").stdout.splitlines()[1]) == listed
    broken, good = (json.loads(line) for line in run("--check", "--json").stdout.splitlines())
    assert broken["status"].startswith("failed: ")
    assert good == {
        **listed,
        "status": "ok",
        "block_types": ["Block"],
        "hooks": ["prunecore_block_types"],
    }


def test_the_list_s_options_are_not_for_a_new_plugin(install: Install) -> None:
    install()
    result = run("--check", "new", "mine")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "Error: --check and --json go with the list, prunecore plugins, alone.\n"
    )
