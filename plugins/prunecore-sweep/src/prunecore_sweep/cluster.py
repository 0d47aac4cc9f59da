"""Cells as tasks of Ray: on a cluster of this machine's own, or on one that is there."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from prunecore.errors import PrunecoreError, UsageError, reason_of, told
from prunecore.escaping import shown, shown_value
from prunecore_sweep.cells import Row, failed, finetune_for, run_cell, sentences
from prunecore_sweep.config import Cell, SweepConfig

_PATIENCE = 5.0  # seconds in which a cluster has to answer

# Ray speaks gRPC, over HTTP/2, whose two sides begin with a frame of settings: RFC 9113, 3.4
_SETTINGS = b"\x04"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _SETTINGS + bytes(5)


def run(
    cells: Sequence[Cell],
    config: SweepConfig,
    folder: Path,
    file: Path,
    address: str | None,
    done: Callable[[Cell, Row], object],
) -> None:
    """Run cells side by side; each is told as it ends, in whatever order.

    A cell whose process dies is tried again. What is raised in one ends that one alone.

    Args:
        cells: to be run.
        config: of the sweep.
        folder: of the sweep, on a file system that all nodes see.
        file: the configuration.
        address: of a Ray cluster; `None` for one on this machine.
        done: called with each cell and its row.

    Raises:
        UsageError: nobody answers at the address, or no node has what a cell needs.
    """
    with _connected(address):
        _check_needs(config)
        options: dict[str, Any] = {
            "num_cpus": config.cpus,
            "num_gpus": config.gpus,
            "max_retries": config.retries,
            "retry_exceptions": [OSError, MemoryError],
        }
        tune: Any = ray.remote(**options)(_tuned)
        task: Any = ray.remote(**options)(_ran)
        tuned: dict[Path, Any] = {}
        running: dict[Any, Cell] = {}
        for cell in cells:
            if cell.tuned not in tuned:
                tuned[cell.tuned] = tune.remote(cell, folder, file)
            ref = task.remote(tuned[cell.tuned], cell, folder, file, config.train, config.latency)
            running[ref] = cell
        while running:
            (ready, *_), _ = ray.wait(list(running), num_returns=1)
            cell = running.pop(ready)
            done(cell, _row_of(ready, cell))


def _tuned(cell: Cell, folder: Path, file: Path) -> str | None:
    """Train the network of some cells on their subset; what was wrong."""
    try:
        finetune_for(cell, folder, file)
    except PrunecoreError as error:
        return sentences(error)
    return None


def _ran(
    fault: str | None, cell: Cell, folder: Path, file: Path, trains: bool, latency: str | None
) -> Row:
    """Run a cell, whose network was trained on its subset before."""
    return failed(cell, fault) if fault else run_cell(cell, folder, file, trains, latency)


def _row_of(ref: Any, cell: Cell) -> Row:
    """What a task came to."""
    try:
        row: Row = ray.get(ref)
    except RayError as error:
        cause = error.cause if isinstance(error, RayTaskError) else error
        if isinstance(cause, RayError):  # of the task, or of the one that trains for it
            return failed(cell, f"Its process was lost: {reason_of(cause)}")
        return failed(cell, f"It raised {told(cause)}.")
    return row


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Ray, which workers of this process's environment join."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # leave CUDA's variable alone
    if address not in (None, "auto"):
        _check_answers(str(address))
    paths = os.pathsep.join(path for path in (os.getcwd(), *sys.path) if path)
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False if address is None else None,
            runtime_env={"env_vars": {"PYTHONPATH": paths}},
        )
    except (ConnectionError, RayError, RuntimeError, ValueError) as error:
        raise UsageError(
            f"There is no Ray at {shown(address or 'this machine')}: {reason_of(error)}\n"
            "Start one (ray start --head), or leave --ray out for this machine alone."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Refuse an address where nobody answers, which Ray tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        raise UsageError(
            f"An address of a Ray cluster is HOST:PORT or auto, not {shown_value(address)}."
        )
    remedy = "Give the address that ray start --head tells, or leave --ray out for this machine."
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _PATIENCE) as connection:
            connection.sendall(_PREFACE)
            is_grpc = connection.makefile("rb").read(4)[3:] == _SETTINGS
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"Nobody answers at {shown(address)}: {reason_of(error)}\n{remedy}"
        ) from error
    if not is_grpc and os.environ.get("RAY_USE_TLS", "0") == "0":
        raise UsageError(
            f"What answers at {shown(address)} is not a Ray cluster, whose dashboard has another "
            f"address.\n{remedy}"
        )


def _check_needs(config: SweepConfig) -> None:
    """Refuse cells that no node can run: they would wait for one forever."""
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    for name, needed in (("CPU", config.cpus), ("GPU", config.gpus)):
        most = max(node["Resources"].get(name, 0) for node in nodes)
        if needed > most:
            raise UsageError(
                f"A cell needs {needed:g} {name}s, and no node has more than {most:g}.\n"
                f"Give sweep: {name.lower()}s: {most:g} at most."
            )
