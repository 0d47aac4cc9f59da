"""The README's example runs, and gives what the README says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import nn

from prunecore_sequential import prunecore_block_types

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_example_writes_what_the_readme_shows():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (shown,) = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    written = [line.strip() for line in names["small"].source.splitlines()]
    lines = shown.splitlines()
    assert written[written.index(lines[0]) :][: len(lines)] == lines


def test_every_owned_class_that_is_named_exists():
    named = {name for name in re.findall(r"`([A-Z]\w+)`", README) if hasattr(nn, name)}
    owned = {cls.__name__ for cls in prunecore_block_types()}
    assert named <= owned
