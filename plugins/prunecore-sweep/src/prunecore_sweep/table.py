"""The table of a sweep as CSV and Parquet, and its picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, parquet

from prunecore_sweep.cells import Row
from prunecore_train.writing import write

# the columns of every table, those of metrics beside them
_COLUMNS = (
    *("network", "subset", "level", "mode", "seed", "status", "error"),
    *("target", "achieved", "params", "macs", "epochs", "seconds", "cell", "file"),
)
_STAGES = ("refitted", "trained", "test")


def write_all(rows: Sequence[Row], metrics: Sequence[str], folder: Path) -> tuple[Path, ...]:
    """Write the table twice, and a picture of it.

    Args:
        rows: one for each cell.
        metrics: that were asked for, beside the loss.
        folder: where.

    Raises:
        PrunecoreError: one cannot be written.
    """
    judged = [f"{stage} {name}" for stage in _STAGES for name in ("loss", *metrics)]
    names = dict.fromkeys([*_COLUMNS, *judged, *(name for row in rows for name in row)])
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    contents: dict[str, bytes] = {}
    for name, write_table in (("sweep.csv", csv.write_csv), ("sweep.parquet", parquet.write_table)):
        stream = pa.BufferOutputStream()
        write_table(table, stream)
        contents[name] = stream.getvalue().to_pybytes()
    contents["sweep.svg"] = _picture(rows)
    for name, content in contents.items():
        write(folder / name, content)
    return tuple(folder / name for name in contents)


def _picture(rows: Sequence[Row]) -> bytes:
    """Accuracy of the test part against the level, a line for each network, subset and mode."""
    from matplotlib.figure import Figure

    done = [row for row in rows if row["status"] == "done"]
    metric = next(
        (name for row in done for name in row if name.startswith("test top-")), "test loss"
    )
    lines: dict[tuple[object, ...], dict[float, list[float]]] = {}
    for row in done:
        key = tuple(row[name] for name in ("network", "subset", "mode") if row[name] is not None)
        lines.setdefault(key, {}).setdefault(row["level"], []).append(row[metric])
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for key, by_level in lines.items():
        levels = sorted(by_level)
        means = [sum(by_level[level]) / len(by_level[level]) for level in levels]
        axes.plot(levels, means, "o-", label=", ".join(map(str, key)))
    axes.set_xlabel("Level, %")
    axes.set_ylabel(f"{metric.capitalize()}, mean over seeds")
    axes.grid(alpha=0.3)
    if lines:
        axes.legend(fontsize="small")
    content = io.StringIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue().encode()
