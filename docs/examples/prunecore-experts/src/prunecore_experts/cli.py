"""`prunecore experts`: how wide each expert of a network is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from prunecore.cli import arguments, as_json, debug, weights


@click.command()
@click.argument("model")
@weights
@arguments
@as_json
@debug
def experts(model: str, weights: Path | None, arguments: dict[str, Any], as_json: bool) -> None:
    """Show the width of every expert of MODEL."""
    from prunecore.cli import load
    from prunecore_experts import Experts

    network = load(model, arguments, weights, seed=0).model
    widths = {
        path: [next(expert.children()).out_channels for expert in block.experts]
        for path, block in network.named_modules()
        if isinstance(block, Experts)
    }
    if as_json:
        click.echo(json.dumps(widths))
        return
    for path, of_each in widths.items():
        click.echo(f"{path}: {', '.join(map(str, of_each))}")
