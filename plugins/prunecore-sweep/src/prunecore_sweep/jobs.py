"""A sweep: its cells run on Ray, each row kept as it comes, then one table and one picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prunecore.escaping import shown
from prunecore.files.config import named
from prunecore.plugins import loading
from prunecore.strategies.best import check_mode
from prunecore_sweep import cluster, table
from prunecore_sweep.cells import Row, fingerprint_of
from prunecore_sweep.config import Cell, read_sweep
from prunecore_train.images.data import Data
from prunecore_train.jobs.outcome import as_json, read_marked
from prunecore_train.writing import check_folder, write

Tell = Callable[[int, int, Row], object]


@dataclass(frozen=True)
class Swept:
    """What came of a sweep.

    Attributes:
        rows: of the table, in the order of the cells.
        resumed: how many cells were done before.
        written: the table as CSV and as Parquet, and the picture.
    """

    rows: list[Row]
    resumed: int
    written: tuple[Path, ...]


def sweep(file: Path, output: Path | None, address: str | None, force: bool, tell: Tell) -> Swept:
    """Run the cells of a configuration that are not done yet, and write the table of all.

    Args:
        file: the configuration.
        output: the folder of what is written, in place of the configuration's.
        address: of a Ray cluster; `None` for one on this machine, which ends with the sweep.
        force: whether cells that are done are done again.
        tell: called after each cell with how many are done, how many there are, and its row.

    Raises:
        PrunecoreError: with what is wrong; cells that fail are told in their rows instead.
    """
    config, cells = read_sweep(file)
    for mode in config.modes:
        check_mode(mode)
    if config.latency is not None:
        loading.load().latency_backend(config.latency)
    folder = output or config.output or Path("sweep")
    check_folder(folder)
    asked = {"train": config.train, "latency": config.latency}
    marks = {cell.name: fingerprint_of(cell, asked) for cell in cells}
    rows: dict[str, Row] = {}
    for cell in () if force else cells:
        known = _read(_record(folder, cell), marks[cell.name])
        if known is not None:
            rows[cell.name] = known
    resumed = len(rows)

    def done(cell: Cell, row: Row) -> None:
        rows[cell.name] = row
        content = {"fingerprint": marks[cell.name], "row": row}
        write(_record(folder, cell), as_json(content))
        tell(len(rows), len(cells), row)

    left = [cell for cell in cells if cell.name not in rows]
    for place, data in config.subsets.items() if left else ():
        with named(f"{shown(file)}: {place}"):  # one that is not there is told once
            Data(data)
    if left:
        cluster.run(left, config, folder.absolute(), file.absolute(), address, done)
    ordered = [rows[cell.name] for cell in cells]
    return Swept(ordered, resumed, table.write_all(ordered, cells[0].job.train.metrics, folder))


def _record(folder: Path, cell: Cell) -> Path:
    return folder / "cells" / f"{cell.name}.json"


def _read(record: Path, mark: str) -> Row | None:
    """The row of a cell that was done with the same inputs; one that failed is run again."""
    row: Row = (read_marked(record, mark) or {}).get("row", {})
    return row if row.get("status") == "done" else None
