"""The documentation keeps up with the code, as far as that shows without any plugin."""

from __future__ import annotations

import ast
import inspect
import os
import re
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest
import yaml

from prunecore import hookspecs
from prunecore.cli.main import main
from prunecore.files.config import ModelConfig, PrunerConfig
from prunecore.plugins.loading import HOOKS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
HOOKS_PAGE = ROOT / "docs/hooks.md"
GUIDE = ROOT / "docs/plugins.md"
EXAMPLE = ROOT / "docs/examples/prunecore-experts"
CLI_PAGE = ROOT / "docs/cli.md"
CONTRIBUTING = ROOT / "docs/contributing.md"


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def described(hook: str) -> str:
    """A hook's signature and docstring, without its example, in Markdown."""
    spec = getattr(hookspecs, hook)
    signature = inspect.signature(spec)
    parameters = ", ".join(f"{p.name}: {p.annotation}" for p in signature.parameters.values())
    returns = f" -> {signature.return_annotation}: ..."
    line = f"def {hook}({parameters}){returns}"
    line = line if len(line) <= 100 else f"def {hook}(\n    {parameters}\n){returns}"
    blocks = [f"```py\n{line}\n```"]  # not `python`, which is run
    for part in inspect.cleandoc(spec.__doc__).split("\n\n"):
        heading, _, body = part.partition("\n")
        body = textwrap.dedent(body)
        if heading == "Args:":
            blocks.append(re.sub(r"^(\w+):", r"- `\1`:", body, flags=re.MULTILINE))
        elif heading == "Returns:":
            blocks.append(f"Returns: {body}")
        elif heading == "Raises:":
            blocks.append(re.sub(r"^(\w+):", r"Raises `\1`:", body, flags=re.MULTILINE))
        elif heading != "Example:":
            blocks.append(part)
    return "\n\n".join(blocks)


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_explained_where_it_is_declared(hook: str) -> None:
    spec = getattr(hookspecs, hook)
    parts = inspect.cleandoc(spec.__doc__).split("\n\n")
    sections = [part.split("\n")[0] for part in parts]
    assert parts[0].endswith(".")
    assert ("Args:" in sections) == bool(inspect.signature(spec).parameters)
    assert sections.index("Returns:") < sections.index("Example:")
    _, _, code = parts[sections.index("Example:")].partition("\n")
    (example,) = python_blocks(inspect.cleandoc(code))
    assert hook in [node.name for node in ast.parse(example).body if hasattr(node, "name")]


def test_the_page_of_hooks_says_what_their_docstrings_say() -> None:
    """`DOCS=write` in the environment writes it anew."""
    text = HOOKS_PAGE.read_text()
    now = re.sub(
        r"<!-- (\w+) -->.*?<!-- end -->",
        lambda match: f"<!-- {match[1]} -->\n\n{described(match[1])}\n\n<!-- end -->",
        text,
        flags=re.DOTALL,
    )
    if os.environ.get("DOCS") == "write":
        HOOKS_PAGE.write_text(now)
    assert now == HOOKS_PAGE.read_text()


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_is_described_and_has_a_whole_example_of_its_own(hook: str) -> None:
    _, section = HOOKS_PAGE.read_text().split(f"\n## `{hook}`\n")
    section, _, _ = section.partition("\n## ")
    assert f"<!-- {hook} -->" in section
    module, plugin = re.findall(
        r'^```python title="(prunecore_\w+)\.py"\n(.*?)^```$', section, re.MULTILINE | re.DOTALL
    )[0]
    assert f"\n@hookimpl\ndef {hook}(" in plugin
    assert f' = "{module}"\n' in HOOKS_PAGE.read_text()  # it is installed
    assert "prunecore.prune(" in "".join(python_blocks(section))


def test_the_plugin_guide_goes_through_the_example_plugin() -> None:
    parts = re.findall(
        r'^```\w+ title="(.+?)"\n(.*?)^```$', GUIDE.read_text(), re.MULTILINE | re.DOTALL
    )
    module = "src/prunecore_experts"
    for name in ("pyproject.toml", f"{module}/__init__.py", f"{module}/cli.py"):
        shown = "\n\n".join(body for title, body in parts if title == name)
        assert shown == (EXAMPLE / name).read_text()


def test_the_example_plugin_is_short() -> None:
    assert len((EXAMPLE / "src/prunecore_experts/__init__.py").read_text().splitlines()) < 80


def command_lines(command: click.Command, line: str) -> Iterator[str]:
    """How a command is called, and each command in it."""
    yield line
    for name, inner in getattr(command, "commands", {}).items():
        yield from command_lines(inner, f"{line} {name}")


@pytest.mark.parametrize("line", list(command_lines(main, "prunecore")))
def test_the_command_line_s_page_shows_what_each_command_takes(line: str) -> None:
    assert f"```console\n$ {line} --help\n```\n\n```text output\n" in CLI_PAGE.read_text()


@pytest.mark.parametrize("section", [ModelConfig, PrunerConfig])
def test_the_command_line_s_page_explains_every_key_of_a_configuration(section: type) -> None:
    rows = re.findall(r"^\| `(\w+)` \| .+ \| .*\|$", CLI_PAGE.read_text(), re.MULTILINE)
    assert {field.name for field in fields(section)} <= set(rows)


def test_contributors_are_told_of_every_room_on_its_floor() -> None:
    contract = re.search(
        r"^layers = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S
    )
    assert contract is not None
    layers = re.findall(r'"(.+)"', contract[1])
    rooms = {
        room.removeprefix("prunecore."): floor
        for floor, layer in enumerate(layers, start=1)
        for room in layer.split(" | ")
    }
    found = [*(ROOT / "prunecore").glob("*.py"), *(ROOT / "prunecore").glob("*/__init__.py")]
    names = {path.parent.name if path.parent.name != "prunecore" else path.stem for path in found}
    assert set(rooms) == names - {"__init__", "__main__"}
    told: dict[str, int] = {}
    floor = 0
    for number, row in re.findall(
        r"^\| (?:(\d+) )?\| (`.+`) \| .+ \|$", CONTRIBUTING.read_text(), re.M
    ):
        floor = int(number or floor)
        told |= dict.fromkeys(re.findall(r"`(\w+)`", row), floor)
    assert told == rooms


def test_contributors_are_told_of_every_session() -> None:
    sessions = re.findall(r"^@nox\..+\ndef (\w+)", (ROOT / "noxfile.py").read_text(), re.MULTILINE)
    rows = re.findall(r"^\| (`.+?`) \| .+ \| .*\|$", CONTRIBUTING.read_text(), re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`(\w+)", row)}
    assert "tests" in sessions
    assert set(sessions) <= told


def test_every_page_is_in_the_site_s_navigation_and_on_its_first_page() -> None:
    pages = {page.name for page in (ROOT / "docs").glob("*.md")}
    overview, *others = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted([*overview.values(), *others]) == sorted(pages)
    first = (ROOT / "docs/index.md").read_text()
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", first)) == pages - {"index.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_continuous_integration_runs_the_readme_s_test_command() -> None:
    command = (ROOT / ".ci/run").read_text().splitlines()[-1]
    assert command.endswith("-m nox -s tests")
    assert command in (ROOT / "README.md").read_text()


def test_the_extra_all_names_every_plugin() -> None:
    folders = {path.parent.name for path in (ROOT / "plugins").glob("*/pyproject.toml")}
    extra = re.search(r"^all = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    assert extra is not None
    assert set(re.findall(r"prunecore-\w+", extra[1])) == folders
