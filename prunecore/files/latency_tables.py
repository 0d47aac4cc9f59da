"""Tables of layer latencies as JSON: written on the device, read where networks are pruned."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from prunecore.errors import PrunecoreError, UsageError
from prunecore.escaping import shown
from prunecore.files.paths import is_folder, is_there, read_text
from prunecore.latency.table import LatencyTable, LayerTimes

SUFFIX = ".json"  # by which a table is told from the name of a backend

SCHEMA = 1

_MOST_BYTES = 2**26


def is_table(latency: str) -> bool:
    """True if what tells latencies is a file, and no backend."""
    return latency.lower().endswith(SUFFIX)


def check_backend(latency: str) -> None:
    """Refuse a table where one is to be filled.

    Raises:
        UsageError: what is to run the layers is a file.
    """
    if is_table(latency):
        raise UsageError(
            f"Layers are to be measured, and {shown(latency)} is a table of such.\n"
            f"Give what runs them, --latency eager or onnxruntime; {shown(latency)} may be the "
            "--output."
        )


def read_table(file: Path) -> LatencyTable:
    """A table of layer latencies.

    Args:
        file: as `write_table` writes it.

    Raises:
        UsageError: it cannot be read, or is no such table.
    """
    text = read_text(file, _MOST_BYTES)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _no_table(file, "it is not JSON") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise _no_table(file, f"its schema is not {SCHEMA}")
    for key, kind in (("backend", str), ("device", str), ("threads", int), ("layers", dict)):
        if not isinstance(found.get(key), kind) or isinstance(found.get(key), bool):
            raise _no_table(file, f"it has no {key}")
    ms = found.get("ms")
    if not isinstance(ms, list) or not _are_times(ms) or len(ms) < 2:
        raise _no_table(file, "ms is no list of two positive numbers or more")
    for path, layer in found["layers"].items():
        if (reason := _what_is_wrong(layer, len(ms))) is not None:
            raise _no_table(file, f"{reason} of the layer {shown(path)}")
    return LatencyTable(
        name=file.name,
        backend=found["backend"],
        device=found["device"],
        threads=found["threads"],
        ms=np.array(ms, dtype=np.float64),
        layers={
            path: LayerTimes(
                np.array(layer["widths"], dtype=np.float64), np.array(layer["ms"], dtype=np.float64)
            )
            for path, layer in found["layers"].items()
        },
    )


def write_table(table: LatencyTable, file: Path) -> None:
    """Write a table of layer latencies.

    Args:
        table: what was measured.
        file: a .json; it is replaced where it is there.

    Raises:
        PrunecoreError: the system refuses to write.
    """
    found = {
        "schema": SCHEMA,
        "backend": table.backend,
        "device": table.device,
        "threads": table.threads,
        "ms": _rounded(table.ms),
        "layers": {
            path: {"widths": layer.widths.astype(int).tolist(), "ms": _rounded(layer.ms)}
            for path, layer in table.layers.items()
        },
    }
    text = json.dumps(found, indent=1, sort_keys=True)
    try:
        file.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise PrunecoreError(f"Cannot write {shown(file)}: {error.strerror}.") from error


def check_target(file: Path, force: bool) -> None:
    """See whether a table can be written, before anything is measured.

    Raises:
        UsageError: it cannot.
    """
    if not is_table(file.name):
        raise UsageError(
            f"The table {shown(file)} is no {SUFFIX} file.\nGive one such as board.json."
        )
    if not is_folder(file.absolute().parent):
        raise UsageError(f"There is no folder {shown(file.absolute().parent)}.\nMake it first.")
    if is_there(file) and not force:
        raise UsageError(f"{shown(file)} exists.\nReplace it with --force.")


def _rounded(ms: Any) -> list[float]:
    return [float(f"{one:.5g}") for one in ms]


def _are_times(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, int | float) and not isinstance(one, bool) and 0 < one < math.inf
        for one in value
    )


def _what_is_wrong(layer: Any, networks: int) -> str | None:
    """Why a layer's entry cannot be used."""
    if not isinstance(layer, dict) or not _are_times(layer.get("ms")):
        return "ms is no list of positive numbers"
    widths = layer.get("widths")
    if not isinstance(widths, list) or not all(map(_are_times, widths)) or not widths:
        return "widths is no list of lists of positive numbers"
    if len({len(row) for row in widths}) != 1 or not widths[0]:
        return "widths have not the same number of axes in all rows"
    if not len(layer["ms"]) == len(widths) == networks:
        return f"there are not {networks} rows, one for each network,"
    return None


def _no_table(file: Path, reason: str) -> UsageError:
    return UsageError(
        f"{shown(file)} is no table of layer latencies: {reason}.\n"
        "Write one on the device: prunecore latency MODEL --output TABLE.json."
    )
