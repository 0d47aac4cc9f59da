"""The command line.

The names below are what authors of commands rely on: the options that commands share, and the
network of a MODEL. What needs torch is imported when it is first used, so that `--help` answers at
once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prunecore.cli.options import (
    arguments,
    as_json,
    checked,
    debug,
    input_shape,
    module,
    path_option,
    seed,
    weights,
)

if TYPE_CHECKING:
    from prunecore.cli.jobs import load, part_of

__all__ = [
    "arguments",
    "as_json",
    "checked",
    "debug",
    "input_shape",
    "load",
    "module",
    "part_of",
    "path_option",
    "seed",
    "weights",
]


def __getattr__(name: str) -> Any:
    if name not in ("load", "part_of"):
        raise AttributeError(f"module 'prunecore.cli' has no attribute {name!r}")
    from prunecore.cli import jobs

    return getattr(jobs, name)
