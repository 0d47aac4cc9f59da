"""The table of a sweep as CSV and Parquet, and its picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

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
    contents["sweep.svg"] = _picture(rows, metrics)
    for name, content in contents.items():
        write(folder / name, content)
    return tuple(folder / name for name in contents)


def _picture(rows: Sequence[Row], metrics: Sequence[str]) -> bytes:
    """The test part against the level, of each network, subset and mode; latencies against MACs."""
    from matplotlib.figure import Figure

    done = [row for row in rows if row["status"] == "done"]
    metric = next(
        (f"test {name}" for name in metrics if any(f"test {name}" in row for row in done)),
        "test loss",
    )
    timed = any("latency ms" in row for row in done)
    series: dict[str, list[Row]] = {}
    for row in done:
        label = ", ".join(str(row[name]) for name in ("network", "subset", "mode") if row[name])
        series.setdefault(label, []).append(row)
    figure = Figure(figsize=(12 if timed else 7, 4.5), layout="constrained")
    judged, *others = figure.subplots(1, 2 if timed else 1, squeeze=False)[0]
    for label, members in series.items():
        levels = sorted({row["level"] for row in members})
        means = [mean(row[metric] for row in members if row["level"] == one) for one in levels]
        judged.plot(levels, means, "o-", label=label)
        for axes in others:
            axes.plot(
                *zip(*((row["macs"], row["latency ms"]) for row in members), strict=True), "o"
            )
    judged.set_xlabel("Level, %")
    judged.set_ylabel(f"{metric.capitalize()}, mean over seeds")
    for axes in others:
        axes.set_xlabel("Multiply-accumulates")
        axes.set_ylabel("Latency, ms")
    for axes in (judged, *others):
        axes.grid(alpha=0.3)
    if series:
        judged.legend(fontsize="small")
    content = io.StringIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue().encode()
