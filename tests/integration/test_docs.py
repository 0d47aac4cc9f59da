"""The code in the documentation runs, and prints what the page says.

A block marked `output` is what the block before it prints; `DOCS=write` in the environment writes
it anew.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from prunecore.cli import main

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs/plugins.md"
PAGES = sorted({ROOT / "README.md", *(ROOT / "docs").glob("*.md")} - {GUIDE})
BLOCK = re.MULTILINE | re.DOTALL
FENCE = re.compile(r"^```(\w+)( output)?\n(.*?)^```$", BLOCK)


def run_python(code: str, names: dict[str, object]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "documentation", "exec"), names)
    return printed.getvalue()


def run_console(text: str) -> str:
    """What the `prunecore` commands among the lines print."""
    printed = ""
    for line in re.findall(r"^\$ prunecore (.*)", text, re.MULTILINE):
        result = CliRunner().invoke(main, line.split(), env={"COLUMNS": "100"})
        assert result.exit_code == 0, result.output
        printed += re.sub(r" +$", "", result.stdout, flags=re.MULTILINE)
    return printed


def run_page(text: str) -> str:
    """The page with its outputs as they are now."""
    names: dict[str, object] = {"__name__": "__main__"}
    printed = ""

    def run(match: re.Match[str]) -> str:
        nonlocal printed
        language, is_output, body = match.groups()
        if is_output:
            return f"```{language} output\n{printed.strip()}\n```"
        if language == "python":
            printed = run_python(body, names)
        elif language == "console":
            printed = run_console(body)
        return match[0]

    return FENCE.sub(run, text)


def check(page: Path, now: str) -> None:
    if os.environ.get("DOCS") == "write":
        page.write_text(now)
    assert now == page.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    check(page, run_page(page.read_text()))


def test_the_plugin_guide_s_plugin_is_found_and_used(tmp_path: Path) -> None:
    text = GUIDE.read_text()
    entry_point = re.search(r"^```toml\n\[project\.entry-points\.(\w+)\]\n(.*?)^```$", text, BLOCK)
    plugin, use = re.findall(r"^```python\n(.*?)^```$", text, BLOCK)
    assert entry_point is not None
    metadata = tmp_path / "prunecore_gated-0.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: prunecore-gated\nVersion: 0.1\n")
    (metadata / "entry_points.txt").write_text(
        f"[{entry_point[1]}]\n{entry_point[2]}".replace('"', "")
    )
    (tmp_path / "prunecore_gated.py").write_text(plugin)
    printed = subprocess.run(
        [sys.executable, "-c", use],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    check(
        GUIDE,
        re.sub(
            r"(?<=^```python output\n).*?(?=^```$)",
            lambda _: printed.strip() + "\n",
            text,
            flags=BLOCK,
        ),
    )
