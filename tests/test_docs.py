"""The documentation keeps up with the code, as far as that shows without any plugin."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
import yaml

from prunecore import hookspecs
from prunecore.plugins import HOOKS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


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


@pytest.mark.parametrize("hook", HOOKS)
def test_a_hook_has_a_whole_example_in_the_plugin_guide(hook: str) -> None:
    guide = (ROOT / "docs/plugins.md").read_text()
    assert f"`{hook}`" in guide
    assert any(f"def {hook}(" in block for block in python_blocks(guide))


def test_every_page_is_in_the_site_s_navigation_and_on_its_first_page() -> None:
    pages = {page.name for page in (ROOT / "docs").glob("*.md")}
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(navigation) == sorted(pages)
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
