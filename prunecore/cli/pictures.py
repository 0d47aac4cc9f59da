"""The pictures that the command line draws, by matplotlib, which is imported for these alone."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunecore.cli.tables import layers_in_short
from prunecore.errors import PrunecoreError, UsageError
from prunecore.escaping import shown
from prunecore.files.paths import is_folder, is_there

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

SUFFIXES = (".svg", ".png")

_MARKERS = "os^DvP*X"
_ROWS = 45  # of a column of the legend
_LEAST_ERROR = 1e-6  # that is drawn: an axis of logarithms has no place for none


def check_picture(file: Path) -> None:
    """See whether a picture can be drawn and written, before any work.

    Raises:
        UsageError: the name has another suffix, its folder is none that can be written to, or
            matplotlib is not installed.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"The picture {shown(file)} is no {' or '.join(SUFFIXES)} file.\n"
            "Give a name that ends so, such as sensitivity.svg."
        )
    folder = file.absolute().parent
    if not is_folder(folder):
        raise UsageError(f"There is no folder {shown(folder)} for the picture.\nMake it first.")
    if is_folder(file):
        raise UsageError(f"{shown(file)} is a folder.\nGive the picture another name.")
    if not os.access(file if is_there(file) else folder, os.W_OK):
        raise UsageError(f"No permission to write {shown(file)}.\nGive another folder.")
    if find_spec("matplotlib") is None:
        raise UsageError(
            "Pictures are drawn by matplotlib, which is not installed.\n"
            "Install it: pip install 'prunecore[plot]'."
        )


def draw_sensitivity(inspection: Mapping[str, Any], file: Path) -> None:
    """Draw agreement and error by the share of channels that go, one line a group.

    Args:
        inspection: its report, with the sensitivity.
        file: a .svg or .png, which is replaced where it is there.

    Raises:
        PrunecoreError: the system refuses to write.
    """
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    found = inspection["sensitivity"]
    groups = found["groups"]
    rows = min(len(groups), _ROWS)
    with matplotlib.rc_context({"svg.hashsalt": "prunecore", "text.parse_math": False}):
        figure = Figure(figsize=(13, max(4.5, 1.2 + 0.19 * rows)), layout="constrained")
        levels = [level for group in groups for level in group["levels"]]
        has_classes = all(level["agreement"] is not None for level in levels)
        *agreements, error = figure.subplots(1, 1 + has_classes, squeeze=False)[0]
        lines = [_draw_group(agreements, error, groups, place) for place in range(len(groups))]
        for agreement in agreements:
            agreement.set_ylabel(f"agreement on {found['held_back']} images, %")
        error.set_ylabel("relative error of the outputs")
        error.set_yscale("log")
        error.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        error.yaxis.set_major_formatter("{x:g}")
        error.yaxis.set_minor_formatter(NullFormatter())
        shares = sorted({level["asked"] for level in levels})
        for axes in (*agreements, error):
            axes.set_xlabel("channels of the group that are gone, %")
            axes.set_xticks([0, *shares])
            axes.set_xlim(-3, max(shares, default=0) + 3)
            axes.grid(alpha=0.3)
        figure.suptitle(
            f"{shown(inspection['model'])}: each group pruned and refitted alone ({found['mode']})"
        )
        figure.legend(
            lines,
            [f"{group['group']}: {layers_in_short(group['layers'])}" for group in groups],
            loc="outside right upper",
            title="group",
            fontsize=8,
            ncols=-(-len(groups) // _ROWS),
        )
        drawn = io.BytesIO()
        kind = file.suffix.lower().removeprefix(".")
        undated = {"Date": None} if kind == "svg" else {}  # the same run draws the same bytes
        figure.savefig(drawn, format=kind, dpi=120, metadata=undated)
    try:
        file.write_bytes(drawn.getvalue())
    except OSError as failed:
        raise PrunecoreError(f"Cannot write {shown(file)}: {failed.strerror}.") from failed


def _draw_group(
    agreements: Sequence[Axes], error: Axes, groups: Sequence[Mapping[str, Any]], place: int
) -> Line2D:
    """The lines of one group: its colour tells of its depth, its marker it from those near it."""
    import matplotlib

    levels = groups[place]["levels"]
    shade = place / max(1, len(groups) - 1)
    look: dict[str, Any] = {
        "color": matplotlib.colormaps["turbo"](0.05 + 0.9 * shade),
        "marker": _MARKERS[place % len(_MARKERS)],
        "markersize": 5,
        "linewidth": 1.4,
    }
    asked = [level["asked"] for level in levels]
    for agreement in agreements:
        agreement.plot([0, *asked], [100, *(100 * one["agreement"] for one in levels)], **look)
    (line,) = error.plot(asked, [max(one["error"], _LEAST_ERROR) for one in levels], **look)
    return line
