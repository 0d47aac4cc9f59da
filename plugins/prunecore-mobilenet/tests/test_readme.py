"""The README's example runs, and gives what the README says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torchvision.models import mobilenet_v2

import prunecore

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_example_writes_what_the_readme_shows():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    torchvisions, decorated = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    names: dict[str, Any] = {"__name__": "readme"}
    exec(code, names)
    assert decorated in names["small"].source
    assert names["small"].report["verified"]
    assert (
        torchvisions
        in prunecore.prune(mobilenet_v2(), level=50, input_shape=(3, 32, 32), mode="random").source
    )
