"""What the commands do: check all that can be checked first, then load, prune and save."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from prunecore import models, pipeline, plugins, storage, values, weights
from prunecore.config import Config
from prunecore.errors import UsageError

Result = tuple[dict[str, Any], Path]  # a report, and the path of the source


def prune_levels(config: Config, force: bool, verify: bool) -> Iterator[Result]:
    """Check all that can be checked, then prune and save at one level after the other.

    Raises:
        PrunecoreError: the job cannot be done; the levels before it are.
    """
    model, pruner = config.model, config.pruner
    if not model.name:
        raise UsageError("Which MODEL? Give one, or a --config with a model's name.")
    if not pruner.pruning_perc:
        raise UsageError("Which level? Give --level 50, or a --config with pruning_perc.")
    name = values.read_net_name(pruner.net_name or models.factory_name(model.name))
    paths = [storage.set_path(config.folder, name, level) for level in pruner.pruning_perc]
    for path in paths:
        storage.check_target(path, force)
    plugins.load().criterion(pruner.mode)
    loaded = load(model.name, model.arguments, model.weights, pruner.seed)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=len(paths))
        for level, path in zip(pruner.pruning_perc, paths, strict=True):
            bar.update(task, description=f"{name} {level:g}")
            small = pipeline.prune(
                loaded.model,
                level,
                model.input_shape or loaded.input_shape,
                pruner.mode,
                pruner.target,
                pruner.seed,
                verify,
                name=name,
                origin=loaded.origin,
            )
            small.save(path, force)
            bar.advance(task)
            yield small.report, path


def load(
    spec: str, arguments: Mapping[str, Any], weights_file: Path | None, seed: int
) -> models.Loaded:
    """The network of a MODEL, with its weights."""
    if weights_file:
        weights.check_weights_file(weights_file)
    loaded = models.load_model(spec, arguments, seed)
    if weights_file:
        weights.load_weights(loaded.model, weights_file)
    elif ":" not in spec and "weights" not in arguments:
        click.echo(f"Warning: {spec} has random weights; give --weights FILE.", err=True)
    return loaded
