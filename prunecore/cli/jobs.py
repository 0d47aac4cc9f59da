"""The jobs of `prunecore prune`: all levels checked first, then loaded, pruned and saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from torch import nn

from prunecore.calibration import Calibration
from prunecore.cli import options
from prunecore.errors import UsageError, unknown_name
from prunecore.escaping import shown
from prunecore.files import models, paths, storage, values, weights
from prunecore.files.commit import recover_sets
from prunecore.files.config import Config
from prunecore.files.fingerprint import fingerprint_network, fingerprint_set
from prunecore.inputs import Inputs, InputShape, of_shape
from prunecore.inspection import Inspection, inspect_traced
from prunecore.latency.table import LatencyTable
from prunecore.planning.goal import Goal
from prunecore.planning.request import DEFAULT_BACKEND, Request, target_of
from prunecore.pruning import carry_out
from prunecore.strategies.best import check_mode
from prunecore.strategies.sensitivity import sensitivity
from prunecore.traced_model import TracedModel
from prunecore.writing.source_file import checked_name


@dataclass(frozen=True)
class Result:
    """One written set.

    Attributes:
        report: what was done.
        path: of the source.
        resumed: whether it was there already, written with the same inputs.
    """

    report: Mapping[str, Any]
    path: Path
    resumed: bool


@dataclass(frozen=True)
class _Place:
    """Where one set goes, and what tells it from the others of the job."""

    path: Path
    level: float | Goal
    seed: int


@dataclass(frozen=True)
class _Task:
    """One set that is to be there: where, and what is asked of it."""

    path: Path
    request: Request


def prune_levels(config: Config, force: bool, verify: bool) -> Iterator[Result]:
    """Check all that can be checked, then prune and save one set after the other.

    Of several sets, those that are there already, written with the same inputs, stay as they are.

    Raises:
        PrunecoreError: the job cannot be done; the sets before the one that failed are.
    """
    name = _net_name(config)
    places = _places(config, name)
    recover_sets(place.path for place in places)
    there = {}  # what they were made from: those of a single place are never resumed
    for place in places if len(places) > 1 and not force else ():
        there[place.path] = storage.read_fingerprint(place.path)
    for place in places:
        storage.check_target(place.path, force or there.get(place.path) is not None)
    model, pruner = config.model, config.pruner
    check_mode(pruner.mode)
    loaded = load(str(model.name), model.arguments, model.weights, pruner.seed)
    loaded = part_of(loaded, model.module)
    inputs = inputs_of(loaded, model.input_shape, model.inputs)
    images = _images(config)
    traced = TracedModel(loaded.model, inputs, pruner.drop, images, pruner.strict)
    _warn_of_skipped(traced)
    if pruner.count:
        _check_draws(traced, pruner.mode, pruner.seed)
    tasks = _tasks(config, places, traced, loaded.origin, name, verify)
    resumed = [there.get(task.path) == task.request.fingerprint for task in tasks]
    for task, is_there in zip(tasks, resumed, strict=True):
        if paths.is_there(task.path) and not (force or is_there):
            raise UsageError(
                f"{shown(task.path)} exists, written with other inputs.\n"
                "Replace the set with --force."
            )
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        running = bar.add_task(name, total=len(tasks))
        for task, is_there in zip(tasks, resumed, strict=True):
            bar.update(running, description=task.path.stem)
            if is_there:
                yield Result(storage.read_report(task.path), task.path, resumed=True)
            else:
                small = carry_out(traced, task.request)
                small.save(task.path, force, config.pruner.shard_size)
                yield Result(small.report, task.path, resumed=False)
            bar.advance(running)


def inspect_network(
    model: nn.Module, inputs: Inputs, name: str, calibrate: Path | None, strict: bool
) -> Inspection:
    """What a network is made of, and with images how much each of its groups matters.

    Args:
        model: the network.
        inputs: what it is called with.
        name: what it is called.
        calibrate: a folder of images.
        strict: whether what is not understood is refused.
    """
    if calibrate is None:
        return inspect_traced(TracedModel(model, inputs, strict=strict), name)
    images = Calibration(calibrate)
    traced = TracedModel(model, inputs, calibration=images, strict=strict)
    _warn_of_skipped(traced)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        running = bar.add_task(name, total=None)
        found = sensitivity(
            traced, on_group=lambda done, total: bar.update(running, completed=done, total=total)
        )
    return inspect_traced(traced, name, found)


def measure_layers(
    model: nn.Module, inputs: Inputs, name: str, backend: str, round_to: int
) -> LatencyTable:
    """Measure the latencies of a network's layers on this machine.

    Args:
        model: the network.
        inputs: what it is called with.
        name: what it is called.
        backend: what runs it.
        round_to: what the measured widths are multiples of.
    """
    traced = TracedModel(model, inputs)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        running = bar.add_task(name, total=None)
        return traced.latency_table(
            backend, round_to, lambda done, total: bar.update(running, completed=done, total=total)
        )


def _warn_of_skipped(traced: TracedModel) -> None:
    if traced.images is not None and (skipped := traced.images.skipped):
        options.say(f"Warning: {skipped} calibration images cannot be read: left out.", err=True)


def _images(config: Config) -> Calibration | None:
    """The calibration images that are asked for; those of a function are made by it."""
    calibration = config.calibration
    if calibration is None or ":" not in str(calibration.images):
        return calibration
    return replace(calibration, images=models.load_images(str(calibration.images)))


def _net_name(config: Config) -> str:
    if not config.model.name:
        raise UsageError("Which MODEL? Give one, or a --config with a model's name.")
    if not config.pruner.asked:
        raise UsageError(
            "Which level? Give --level 50 or --to 5M-params, or a --config with pruning_perc or to."
        )
    return checked_name(config.pruner.net_name or name_of(config.model.name, config.model.module))


def name_of(spec: str, module: str | None) -> str:
    """The name of what is pruned: the factory's, and that of the module in place of the whole."""
    name = models.factory_name(spec)
    return f"{name}_{module.replace('.', '_')}" if module else name


def part_of(loaded: models.Loaded, module: str | None) -> models.Loaded:
    """A module of a network in place of the whole.

    Raises:
        UsageError: the network has no such module.
    """
    if module is None:
        return loaded
    part = module_of(loaded.model, module)
    return models.Loaded(part, f"{loaded.origin}, {module}", loaded.input_shape)


def inputs_of(loaded: models.Loaded, shape: InputShape | None, inputs: Inputs | None) -> Inputs:
    """What a network is called with: as is asked, by its file's examples, or as is usual.

    Args:
        loaded: the network.
        shape: the shape of its input, or of each, that is asked for.
        inputs: in its place, all of them.
    """
    if inputs is not None:
        return inputs
    if shape is None and loaded.examples is not None:
        return loaded.examples()
    return of_shape(shape or loaded.input_shape)


def _places(config: Config, name: str) -> list[_Place]:
    """Where each set goes: of a counted job several a level, each with a seed of its own."""
    pruner = config.pruner
    numbers = range(1, pruner.count + 1) if pruner.count else [None]
    if (count := len(numbers) * len(pruner.asked)) > values.MOST_SETS:
        raise UsageError(
            f"That makes {count:,} sets, and a job writes {values.MOST_SETS:,} at most.\n"
            "Give fewer levels, or a smaller --count."
        )
    values.read_seed(pruner.seed + len(numbers) - 1)
    return [
        _Place(
            storage.set_path(config.folder, name, level, number),
            level,
            pruner.seed + (number or 1) - 1,
        )
        for level in pruner.asked
        for number in numbers
    ]


def _tasks(
    config: Config,
    places: list[_Place],
    traced: TracedModel,
    origin: str,
    name: str,
    verify: bool,
) -> list[_Task]:
    pruner = config.pruner
    network = fingerprint_network(traced.model, config.model.arguments, traced.plugins.versions())
    timed = {level for level in pruner.asked if target_of(level, pruner.target) == "latency"}
    tasks = []
    for place in places:
        own: dict[str, Any] = {"seed": place.seed}
        if timed and place.level not in timed:
            own["latency"] = DEFAULT_BACKEND
        request = traced.request(
            place.level, name=name, verify=verify, origin=origin, **{**pruner.options, **own}
        )
        images = traced.images.digest if traced.images else None
        size = pruner.shard_size
        mark = fingerprint_set(network, traced.inputs, traced.drop, request, images, size)
        tasks.append(_Task(place.path, replace(request, fingerprint=mark)))
    return tasks


def _check_draws(traced: TracedModel, mode: str | None, seed: int) -> None:
    """Refuse several networks of a mode that scores alike whatever the seed."""
    if np.array_equal(traced.scores(mode, seed), traced.scores(mode, seed + 1)):
        raise UsageError(
            f"Mode {traced.mode(mode)} draws nothing: all networks of --count would be the same.\n"
            "Give --mode random-weighted or random, or leave --count out."
        )


def load(
    spec: str, arguments: Mapping[str, Any], weights_file: Path | None, seed: int
) -> models.Loaded:
    """The network of a MODEL, with its weights."""
    if weights_file:
        weights.check_weights_file(weights_file)
        loaded = models.load_unfilled(spec, arguments, seed)
        weights.load_weights(loaded.model, weights_file)
        if models.is_filled(loaded.model):
            return loaded
    loaded = models.load_model(spec, arguments, seed)
    if weights_file:  # it holds what it has computed of its own weights while it was made
        weights.load_weights(loaded.model, weights_file)
    elif ":" not in spec and "weights" not in arguments:
        options.say(f"Warning: {shown(spec)} has random weights; give --weights FILE.", err=True)
    return loaded


def module_of(model: nn.Module, path: str) -> nn.Module:
    """The module at a path of a network.

    Raises:
        UsageError: there is none.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    if path not in modules:
        raise unknown_name("module", path, (name for name in modules if name))
    return modules[path]
