"""The commands of prunecore-train. What needs torch is imported when one runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from prunecore.cli import as_json, checked, debug, path_option
from prunecore.cli.options import say
from prunecore.errors import UsageError
from prunecore.files import values
from prunecore_train.config import read_count

if TYPE_CHECKING:
    from prunecore_train.jobs.outcome import Done
    from prunecore_train.jobs.probes import Probe
    from prunecore_train.training.trainer import Machine

Command = TypeVar("Command", bound=Callable[..., Any])


_read_number = checked(lambda text: read_count(1)(values.read_yaml(text)))


_MACHINE = (
    click.option(
        "--accelerator",
        default="auto",
        metavar="cpu|gpu|...",
        help="What trains.  [default: what there is]",
    ),
    click.option(
        "--devices",
        metavar="N",
        callback=_read_number,
        help="How many of a node.  [default: all; of CPUs one]",
    ),
    click.option(
        "--nodes", metavar="N", callback=_read_number, help="How many nodes.  [default: 1]"
    ),
    click.option(
        "--strategy",
        default="auto",
        metavar="ddp|fsdp|...",
        help="How several devices share the work, a strategy of Lightning's.",
    ),
    click.option(
        "--precision",
        default="32-true",
        metavar="16-mixed|bf16-mixed|...",
        help="Of what is computed, one of Lightning's.  [default: 32-true]",
    ),
)


def _with(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Options that several commands have, in the order of their help."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_configuration = click.argument("config", callback=checked(values.read_path))


def _training(metavar: str, default: str) -> Callable[[Command], Command]:
    """What each command has that trains, and leaves files at a place."""
    return _with(
        *_MACHINE,
        path_option("--output", "output", metavar, f"Where the files go.  [default: {default}]"),
        click.option("--force", is_flag=True, help="Start anew, and replace what is there."),
        as_json,
        debug,
    )


@click.command()
@_configuration
@_training("DIR", "NETWORK_trained")
def train(
    config: Path, output: Path | None, force: bool, as_json: bool, **machine_options: Any
) -> None:
    """Train the network of CONFIG on its data; write weights and the outcome.

    CONFIG is a .yaml file with the sections model, data and train. A run that was killed goes on
    from its last checkpoint.
    """
    from prunecore_train.jobs import training

    with redirect_stdout(sys.stderr):  # what the user's own code prints is no result
        done = training.train(config, output, _machine(**machine_options), force)
    _show(done, as_json)


@click.command()
@_configuration
@_training("DIR", "NETWORK_adapted")
def adapt(
    config: Path, output: Path | None, force: bool, as_json: bool, **machine_options: Any
) -> None:
    """Make the network of CONFIG as small as a subset of its classes allows.

    CONFIG is a .yaml file with the sections model, pruner, data, train and adapt. The network is
    trained on the subset; then the highest level is searched for at which a smaller one, refitted
    and where needed trained, validates as well. A search that was killed goes on where it was.
    """
    from prunecore_train.jobs import adapt

    with redirect_stdout(sys.stderr):
        done = adapt.adapt(config, output, _machine(**machine_options), force, _tell_probe)
    _show(done, as_json)


def _tell_probe(probe: Probe) -> None:
    from prunecore_train.jobs.outcome import is_first_process

    if not is_first_process():
        return
    amounts = [
        f"{stage} {_amounts(judged)}"
        for stage, judged in (("refitted:", probe.refitted), ("trained:", probe.trained))
        if judged is not None
    ]
    what = "holds" if probe.holds else "does not hold"
    say(probe.reason or f"Level {probe.level:g} {what}: {'; '.join(amounts)}", err=True)


@click.command()
@_configuration
@_training("DIR", "NETWORK_compared")
def compare(
    config: Path, output: Path | None, force: bool, as_json: bool, **machine_options: Any
) -> None:
    """Tell what knowing a subset's images is worth, at equal size.

    The network of CONFIG is pruned and trained once with images of all classes and once with those
    of the subset, whose test part judges both; CONFIG is as for adapt.
    """
    from prunecore_train.jobs import compare

    with redirect_stdout(sys.stderr):
        done = compare.compare(config, output, _machine(**machine_options), force)
    _show(done, as_json)


config_option = path_option(
    "--config", "config", "FILE", "A .yaml file with the sections data and train."
)


@click.command()
@click.argument("file", callback=checked(values.read_path))
@config_option
@_training("FILE.py", "FILE_trained.py")
def finetune(
    file: Path,
    config: Path | None,
    output: Path | None,
    force: bool,
    as_json: bool,
    **machine_options: Any,
) -> None:
    """Train the written FILE, and write it as a set again, with the report.

    FILE is imported, which runs it. Where the configuration names the original under model, that
    teaches it, too. A run that was killed goes on from its last checkpoint.
    """
    from prunecore_train.jobs import training

    with redirect_stdout(sys.stderr):
        done = training.finetune(file, _given(config), output, _machine(**machine_options), force)
    _show(done, as_json)


@click.command()
@click.argument("file", callback=checked(values.read_path))
@config_option
@_with(*_MACHINE, as_json, debug)
def evaluate(file: Path, config: Path | None, as_json: bool, **machine_options: Any) -> None:
    """Judge the written FILE by the test part of the data.

    FILE is imported, which runs it.
    """
    from prunecore_train.jobs import training

    with redirect_stdout(sys.stderr):
        done = training.evaluate(file, _given(config), _machine(**machine_options))
    _show(done, as_json)


def _given(config: Path | None) -> Path:
    if config is None:
        raise UsageError("On which data?\nGive --config FILE, with a section data.")
    return config


def _machine(**options: Any) -> Machine:
    from prunecore_train.training.trainer import Machine, check_machine

    given = {name: value for name, value in options.items() if value is not None}
    machine = Machine(**given, progress=sys.stderr.isatty())
    check_machine(machine)
    return machine


def _show(done: Done, as_json: bool) -> None:
    from prunecore_train.jobs.outcome import is_first_process

    if not is_first_process():
        return
    if as_json:
        click.echo(json.dumps(done.outcome, sort_keys=True))
        return
    if "level" in done.outcome:
        click.echo(f"level: {done.outcome['level']:g} % of {done.outcome['target']}")
    for row in done.outcome.get("levels", ()):
        click.echo(_difference(row, done.outcome["metric"]))
    for part in ("unpruned_test", "validation", "test"):
        if part in done.outcome:
            click.echo(f"{part.replace('_', ' ')}: {_amounts(done.outcome[part])}")
    if done.outcome.get("resumed"):
        say("Skipped: done already with the same inputs (--force starts anew).", err=True)
    elif done.written:
        say(f"Wrote {' and '.join(map(str, done.written))}.")


def _difference(row: Mapping[str, Any], metric: str) -> str:
    """What the images of a subset have brought at a level."""
    scale = 1 if metric == "loss" else 100  # points are percents
    without, with_them = (scale * row[way]["test"][metric] for way in ("without", "with"))
    return (
        f"level {row['level']:g}: {metric} {with_them:.2f} with the subset's images, {without:.2f} "
        f"without: {with_them - without:+.2f} points"
    )


def _amounts(judged: Mapping[str, float]) -> str:
    """What a part says: shares in percent, the loss as it is."""
    return ", ".join(
        f"{name} {value:.3g}" if name == "loss" else f"{name} {100 * value:.2f} %"
        for name, value in judged.items()
    )
