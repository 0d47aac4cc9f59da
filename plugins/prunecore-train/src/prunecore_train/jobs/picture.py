"""The picture of a search: accuracy against parameters, multiply-accumulates and level."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunecore_train.writing import write

_AXES = {"params": "Parameters", "macs": "Multiply-accumulates", "level": "Level, %"}


def draw_probes(history: Mapping[str, Any], file: Path) -> None:
    """Draw what the validation part says of each level, refitted and trained.

    Args:
        history: of the search.
        file: the .svg, which is replaced where it is there.

    Raises:
        PrunecoreError: it cannot be written.
    """
    from matplotlib.figure import Figure

    metric = history["metric"]
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    panels = figure.subplots(1, len(_AXES), sharey=True)
    for panel, (key, label) in zip(panels, _AXES.items(), strict=True):
        panel.axhline(history["asked"], color="gray", linestyle="--", label="asked")
        for stage, marker in (("refitted", "o"), ("trained", "s")):
            found = sorted(
                (probe[key], probe[stage][metric]) for probe in history["probes"] if probe[stage]
            )
            panel.plot(*zip(*found, strict=True), marker, label=stage) if found else None
        panel.set_xlabel(label)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"Validation, {metric}")
    panels[-1].legend()
    content = io.StringIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    write(file, content.getvalue().encode())
