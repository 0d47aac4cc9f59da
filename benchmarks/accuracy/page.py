"""The page of results, of which each script writes a part and leaves the others alone."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path("docs/quality.md")
HEAD = Path("README.md")  # has the head of it


def write_part(name: str, text: str, page: Path = PAGE) -> None:
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
