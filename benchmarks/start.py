"""What commands take that need no network, beside importing click and rich; Linux and macOS.

    python benchmarks/start.py [--write]

Each runs in a process of its own, in turns; the medians count, of the seconds by the clock and of
the CPU's. `times` is beside `python -c "import click, rich"` in the same interpreter; it is to be 3
at most.
"""

from __future__ import annotations

import itertools
import os
import resource
import statistics
import subprocess
import sys
import time

from page import parser_of, show, table

REPEATS = 40
BASE = "import click, rich"
TYPED = {  # what a shell asks for when a key is pressed after these
    "completion": "prunecore ",
    "completion of options": "prunecore prune --",
}


def command(code: str, **environment: str) -> tuple[list[str], dict[str, str]]:
    """An interpreter that runs a text, and its environment."""
    return [sys.executable, "-c", code], {**os.environ, **environment}


def commands() -> dict[str, tuple[list[str], dict[str, str]]]:
    """What is measured, by what it is called in the table."""
    run = "from prunecore.cli.main import main; main(prog_name='prunecore'"
    found = {f'python -c "{BASE}"': command(BASE)}
    for arguments in ("--help", "prune --help", "plugins", "--version"):
        found[f"prunecore {arguments}"] = command(f"{run}, args={arguments.split()})")
    for name, words in TYPED.items():
        found[name] = command(
            f"{run})",
            _PRUNECORE_COMPLETE="bash_complete",
            COMP_WORDS=words,
            COMP_CWORD=str(len(words.split(" ")) - 1),
        )
    return found


def spent() -> float:
    """The CPU seconds of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def milliseconds(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """What a process takes by the clock, and of the CPU."""
    start, before = time.perf_counter(), spent()
    subprocess.run(arguments, env=environment, stdout=subprocess.DEVNULL, check=True)
    return 1000 * (time.perf_counter() - start), 1000 * (spent() - before)


def main() -> None:
    """Print the table, or write it."""
    write = parser_of(__doc__).parse_args().write
    measured = commands()
    rounds = [[milliseconds(*one) for one in measured.values()] for _ in range(REPEATS + 1)]
    medians = [
        [statistics.median(times) for times in zip(*runs, strict=True)]
        for runs in zip(*rounds[1:], strict=True)  # the first round warms up
    ]
    rows = []
    for name, found in zip(measured, medians, strict=True):
        cells = (
            (f"{value:.0f}", f"{value / base:.1f}")
            for value, base in zip(found, medians[0], strict=True)
        )
        rows.append([f"`{name}`", *itertools.chain.from_iterable(cells)])
    show("start", table(["command", "ms", "times", "CPU ms", "times"], rows), write)


if __name__ == "__main__":
    main()
