"""A plugin that was made for other versions of the core, or of another plugin, is not loaded."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib.metadata import Distribution, distribution, version
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import prunecore
from prunecore import errors
from prunecore.cli.main import main
from prunecore.plugin import PluginError
from prunecore.plugins import loading, requirements
from prunecore.plugins.requirements import unmet

Install = Callable[..., None]
MODULE = "import sys\nsys.loaded_{name} = True\n"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lay a distribution on the path, as pip leaves it there; `install` is all of it."""

    def install(name: str, number: str, *requires: str, plugin: bool = True) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-{number}.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {number}"]
        lines += [f"Requires-Dist: {text}" for text in requires]
        (folder / "METADATA").write_text("\n".join(lines) + "\n")
        if plugin:
            key = name.removeprefix("prunecore-").replace("-", "_")
            (folder / "entry_points.txt").write_text(f"[prunecore]\n{key} = stranger_{key}\n")
            (tmp_path / f"stranger_{key}.py").write_text(MODULE.format(name=key))

    found = loading.entry_points

    def ours(group: str) -> Any:
        points = found(group=group)
        return [point for point in points if point.module.startswith("stranger_")]

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(loading, "entry_points", ours)
    monkeypatch.delenv(errors.BLOCK_VARIABLE, raising=False)
    loading._load_installed.cache_clear()
    yield install
    loading._load_installed.cache_clear()
    for name in [name for name in sys.modules if name.startswith("stranger_")]:
        del sys.modules[name]


HERE = version("prunecore")


@pytest.mark.parametrize(
    ("requirement", "told"),
    [
        ("prunecore>=2", f"it requires prunecore>=2, and prunecore {HERE} is installed"),
        ("prunecore (>=2)", f"it requires prunecore>=2, and prunecore {HERE} is installed"),
        ("prunecore[all]~=7.0 ; python_version > '3'", "it requires prunecore~=7.0, and"),
        ("Prunecore==0.0.1", f"it requires Prunecore==0.0.1, and Prunecore {HERE} is installed"),
        ("prunecore<0.1", f"it requires prunecore<0.1, and prunecore {HERE} is installed"),
        ("prunecore-other>=5", "it requires prunecore-other>=5, and prunecore-other 1.0rc1 is in"),
        ("prunecore_other!=1.0rc1", "it requires prunecore_other!=1.0rc1, and prunecore_other 1.0"),
        ("acme-blocks>3", "it requires acme-blocks>3, and acme-blocks 3 is installed"),
        ("prunecore-absent", "it requires prunecore-absent, which is not installed"),
        ("prunecore-absent>=5", "it requires prunecore-absent>=5, which is not installed"),
    ],
)
def test_a_requirement_that_is_not_met(install: Install, requirement: str, told: str) -> None:
    install("prunecore-other", "1.0rc1")
    install("acme-blocks", "3")
    install("prunecore-mine", "0.7", "click>=99", requirement)
    name = re.split(r"[^\w-]", requirement)[0]
    with pytest.raises(PluginError) as caught:
        loading.load()
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"Failed to load plugin mine (prunecore-mine 0.7): {told}")
    assert second == (
        f"Install versions that fit, pip install --upgrade prunecore-mine {name}, or block it: "
        "PRUNECORE_BLOCK=mine."
    )
    assert not hasattr(sys, "loaded_mine")


@pytest.mark.parametrize(
    "requirement",
    [
        "prunecore",
        "prunecore>=0.0.1,<99",
        "prunecore[all]>=0.0.1",
        "prunecore>=99; python_version < '3'",
        "prunecore>=99; extra == 'test'",
        "prunecore-absent; extra == 'all'",
        "prunecore-absent ; sys_platform == 'nowhere'",
        "prunecore @ file:///some/where",
        "prunecore-other>=1.0a1",  # a pre-release
        "prunecore-other<2",
        "acme-blocks==3",
        "acme-blocks==3.*",
        "absent>=3",
        "click>=99",
        "prunecorealike>=3",
        "not ! a requirement",
    ],
)
def test_a_requirement_that_is_met_or_not_ours(install: Install, requirement: str) -> None:
    install("prunecore-other", "1.0rc1")
    install("acme-blocks", "3+local")
    install("prunecore-mine", "0.7", requirement)
    try:
        assert "mine" in [plugin.name for plugin in loading.load().all]
        assert sys.loaded_mine  # type: ignore[attr-defined]
    finally:
        for name in ("mine", "other", "acme_blocks"):
            vars(sys).pop(f"loaded_{name}", None)


def test_what_is_required_is_a_plugin_by_its_entry_point(install: Install) -> None:
    install("acme-tool", "1", plugin=False)
    install("prunecore-mine", "0.7", "acme-tool>=2")
    assert unmet(distribution("prunecore-mine")) is None


@pytest.mark.parametrize("core", ["0.2.0.dev3", "0.2.0a1", "0.2.0+g1234", "0.2.0.post1"])
def test_the_installed_core_may_be_of_any_kind(
    install: Install, monkeypatch: pytest.MonkeyPatch, core: str
) -> None:
    class Other(Distribution):
        version = core
        entry_points: Any = ()

        def read_text(self, filename: str) -> None: ...

        def locate_file(self, path: Any) -> Path:
            return Path(path)

    install("prunecore-mine", "0.7", "prunecore>=0.1,<0.3")
    mine = distribution("prunecore-mine")
    monkeypatch.setattr(requirements, "distribution", lambda name: Other())
    assert unmet(mine) is None


def test_the_list_shows_it_and_imports_nothing(install: Install) -> None:
    install("prunecore-mine", "0.7", "prunecore>=2")
    result = CliRunner().invoke(main, ["plugins"])
    assert (result.exit_code, result.stdout) == (0, "mine             prunecore-mine 0.7\n")
    assert not hasattr(sys, "loaded_mine")


def test_the_check_tells_why(install: Install) -> None:
    install("prunecore-mine", "0.7", "prunecore>=2")
    result = CliRunner().invoke(main, ["plugins", "--check"])
    assert result.exit_code == 1
    assert result.stdout.startswith(
        "mine             prunecore-mine 0.7  failed: Failed to load plugin mine (prunecore-mine "
        f"0.7): it requires prunecore>=2, and prunecore {HERE} is installed.\n"
    )


def test_a_job_stops_before_any_work(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch import nn

    install("prunecore-mine", "0.7", "prunecore>=2")
    with pytest.raises(PluginError, match="it requires prunecore>=2"):
        prunecore.prune(nn.Sequential(), level=30, input_shape=(3,))
    monkeypatch.setenv(errors.BLOCK_VARIABLE, "mine")
    assert [plugin.name for plugin in loading.load().all] == ["builtin"]


def test_every_plugin_here_fits_the_core_here() -> None:
    for plugin in loading.installed():
        assert plugin.entry_point.dist is not None
        assert unmet(plugin.entry_point.dist) is None
