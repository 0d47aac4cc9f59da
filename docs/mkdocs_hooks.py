"""What the site makes of the pages: the changelog in full, a heading over what code prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
START = "<!-- towncrier release notes start -->\n"


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Give the text that a page is made from."""
    if page.file.src_uri == "changelog.md":
        markdown = changelog()
    # The examples lie in the repository: on the site, a link to them would lead nowhere.
    markdown = re.sub(r"\[([^\]]+)\]\(examples/[^)]+\)", r"\1", markdown)
    return re.sub(r"^```(\w+) output$", r'```\1 title="Output"', markdown, flags=re.MULTILINE)


def on_post_page(output: str, page: Page, **_: Any) -> None:
    """See that a page can be read without a network."""
    loads = re.search(r'<(script|link|img)\b[^>]* (src|href)="(https?:)?//[^"]*"', output)
    if loads:
        raise PluginError(f"{page.file.src_uri} loads something from elsewhere: {loads[0]}")


def changelog() -> str:
    """CHANGELOG.md, and in front of its releases what the next one will bring."""
    released = (ROOT / "CHANGELOG.md").read_text()
    if not any((ROOT / "changelog.d").glob("*.*.md")):
        return released
    draft = ["build", "--draft", "--version", "Next release", "--date", "not yet published"]
    towncrier = subprocess.run(
        [sys.executable, "-m", "towncrier", *draft],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return released.replace(START, START + towncrier.stdout)
