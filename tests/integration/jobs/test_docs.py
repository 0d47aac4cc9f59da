"""The code in the documentation runs, and prints what the page says.

A block marked `output` is what the block before it prints; `DOCS=write` in the environment writes
it anew. A block with a title is the file of that name, or its next part; a pyproject.toml is as
good as installed. In a console, `$ echo $?` shows that a command fails, and with which exit
code.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from prunecore.cli.main import main
from prunecore.inputs import of_shape
from prunecore.plugins import loading
from prunecore.walking.network import walk

ROOT = Path(__file__).parents[3]
PICTURED = ROOT / "docs/how-it-works.md"
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.MULTILINE | re.DOTALL
FENCE = re.compile(r'^```(\w+)(?: (output)| title="(.+?)")?\n(.*?)^```$', BLOCK)
READER = "/home/you/networks"  # stands in the pages for the folder in which they are run


def run_python(code: str, names: dict[str, Any]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "documentation", "exec", dont_inherit=True), names)
    return printed.getvalue()


def run_console(text: str) -> str:
    """What the `prunecore` commands among the lines print."""
    printed, exit_code = "", 0
    for command in re.findall(r"^\$ (.*)", text, re.MULTILINE):
        if command == "echo $?":
            assert exit_code != 0, printed
            printed += f"{exit_code}\n"
            exit_code = 0
            continue
        assert exit_code == 0, printed
        program, *arguments = shlex.split(command)
        assert program == "prunecore"
        result = CliRunner().invoke(main, arguments, env={"COLUMNS": "100"})
        exit_code = result.exit_code
        shown = result.output if exit_code else result.stdout
        printed += re.sub(r" +$", "", shown, flags=re.MULTILINE)
    assert exit_code == 0, printed
    return printed


def install(pyproject: str, folder: Path) -> None:
    """Let what a pyproject.toml names be found, plugins and commands, as if it were installed."""
    name, version = re.findall(r'^(?:name|version) = "(.*)"$', pyproject, re.MULTILINE)
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    groups = re.findall(r'^\[project\.entry-points\."?(.+?)"?\]\n(.*?)(?:^\n|\Z)', pyproject, BLOCK)
    points = "".join(f"[{group}]\n{named}" for group, named in groups).replace('"', "")
    (metadata / "entry_points.txt").write_text(points)
    loading._load_installed.cache_clear()


def titled_files(text: str) -> dict[str, str]:
    """The files that a page's titled blocks are, or are the parts of."""
    files: dict[str, str] = {}
    for _, _, title, body in FENCE.findall(text):
        if title:
            files[title] = f"{files[title]}\n\n{body}" if title in files else body
    return files


def run_page(text: str, folder: Path) -> str:
    """The page with its outputs as they are now."""
    for title, body in titled_files(text).items():
        (folder / title).parent.mkdir(parents=True, exist_ok=True)
        (folder / title).write_text(body)
        if title == "pyproject.toml":
            install(body, folder)
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = ""

    def run(match: re.Match[str]) -> str:
        nonlocal printed
        language, is_output, title, body = match.groups()
        if is_output:
            assert printed, f"nothing is printed before {match[0]}"
            return f"```{language} output\n{printed.strip()}\n```"
        if language == "python" and not title:
            printed = run_python(body, names)
        elif language == "console":
            printed = run_console(body)
        printed = printed.replace(str(folder), READER)
        return match[0]

    return FENCE.sub(run, text)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that a page is run in; what the page imports or installs is gone afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "src")
    yield tmp_path
    for file in [*tmp_path.glob("*.py"), *tmp_path.glob("src/*")]:
        sys.modules.pop(file.stem, None)
    loading._load_installed.cache_clear()


def check(page: Path, now: str) -> None:
    if os.environ.get("DOCS") == "write":
        page.write_text(now)
    assert now == page.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs(page: Path, folder: Path) -> None:
    check(page, run_page(page.read_text(), folder))


def test_the_picture_shows_the_ids_of_its_network() -> None:
    picture = (ROOT / "docs/channel-ids.svg").read_text()
    shown = {
        name: re.findall(r">([\d=]+)</text>", group)
        for name, group in re.findall(r'<g id="(\w+)">(.*?)</g>', picture, re.DOTALL)
    }
    code = re.findall(r"^```python\n(.*?)^```$", PICTURED.read_text(), BLOCK)[0]
    names: dict[str, Any] = {}
    run_python(code, names)
    found = walk(names["Net"](), of_shape((3, 8, 8)), loading.load())
    for node, signal in found.forwards.traces[""].values.items():
        places = signal.ids.ravel()
        if node.name in ("add", "cat"):  # where ids have been coupled
            same = [np.flatnonzero(found.channel_of == found.channel_of[id_]) for id_ in places]
            assert shown[node.name] == ["=".join(map(str, ids)) for ids in same]
        elif node.name not in ("image", "head"):
            assert shown[node.name] == [str(id_) for id_ in places]


def test_what_a_contributor_is_shown_can_be_added(tmp_path: Path) -> None:
    """The page's files and changes, put into a copy of the tree, pass the tests that it shows."""
    text = (ROOT / "docs/contributing.md").read_text()
    parts = ["prunecore", "plugins/prunecore-sequential", "tests"]
    for part in parts:
        unneeded = shutil.ignore_patterns("__pycache__", "golden", "integration")
        shutil.copytree(ROOT / part, tmp_path / part, ignore=unneeded)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shown = titled_files(text)
    for name, body in shown.items():
        (tmp_path / name).write_text(body)
    for language, _, _, changes in FENCE.findall(text):
        if language == "diff":
            changed = ["git", "apply", "--recount", "-"]
            subprocess.run(changed, cwd=tmp_path, input=changes, text=True, check=True)
    tests = [name for name in shown if "/test_" in name]
    assert len(tests) == 4
    source = [str(tmp_path), str(tmp_path / parts[1] / "src")]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
