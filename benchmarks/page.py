"""The pages of results, of which each script writes a part and leaves the others alone."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
HEAD = DOCS.with_name("README.md")  # has the heads of some


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A command line that asks whether to write."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write the part of docs/speed.md")
    return parser


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, its numbers to the right."""
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def show(part: str, text: str, write: bool) -> None:
    """Print a text, or write it into its part of docs/speed.md."""
    if write:
        write_part(part, text, DOCS / "speed.md")
    else:
        print(text)


def write_part(name: str, text: str, page: Path = DOCS / "quality.md") -> None:
    """Put a text between the two marks of a part.

    Args:
        name: of the part, in its marks.
        text: Markdown.
        page: which has the marks.

    Raises:
        ValueError: the page has no such marks.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    between = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    before = page.read_text()
    if not between.search(before):
        raise ValueError(f"{page} has no part between {begin.strip()} and {end.strip()}")
    page.write_text(between.sub(lambda _: f"{begin}\n{text.strip()}\n\n{end}", before))
