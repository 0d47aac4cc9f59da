"""The command `sweep`. What needs torch and Ray is imported when it runs."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

import click

from prunecore.cli import as_json, checked, debug, path_option
from prunecore.cli.options import say
from prunecore.files import values


@click.command()
@click.argument("config", callback=checked(values.read_path))
@click.option(
    "--ray",
    "address",
    metavar="ADDRESS",
    help="A Ray cluster, HOST:PORT or auto.  [default: this machine alone]",
)
@path_option("--output", "output", "DIR", "Where the files go.  [default: sweep]")
@click.option("--force", is_flag=True, help="Run finished cells again, too.")
@as_json
@debug
def sweep(
    config: Path, address: str | None, output: Path | None, force: bool, as_json: bool
) -> None:
    """Prune every network of CONFIG for each subset, level, mode and seed; write one table.

    CONFIG is a .yaml file with the sections model, pruner, data, train, adapt and sweep. Cells that
    are done are not done again; one that fails does not stop the others, and the table says why.
    """
    from prunecore_sweep import jobs

    def tell(done: int, total: int, row: dict[str, object]) -> None:
        what = "" if row["status"] == "done" else f": {row['error']}"
        say(f"{done} of {total}: {row['cell']} {row['status']}{what}", err=True)

    with redirect_stdout(sys.stderr):
        swept = jobs.sweep(config, output, address, force, tell)
    if as_json:
        click.echo(json.dumps(swept.rows, sort_keys=True))
    else:
        failed = sum(row["status"] != "done" for row in swept.rows)
        more = f", {failed} of them failed" if failed else ""
        cells = "1 cell" if len(swept.rows) == 1 else f"{len(swept.rows)} cells"
        click.echo(f"{cells}{more}, {swept.resumed} of them done before.")
        say(f"Wrote {', '.join(map(str, swept.written))}.")
    if any(row["status"] != "done" for row in swept.rows):
        sys.exit(1)
