"""The `prunecore` command and its commands: results to stdout, everything else to stderr.

Whatever needs torch is imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import gc
import itertools
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prunecore.cli import options
from prunecore.cli.plugin_commands import PluginCommands
from prunecore.cli.plugins import plugins
from prunecore.criteria.scoring import NORMALIZATIONS, PARTS, REDUCTIONS
from prunecore.errors import UsageError
from prunecore.escaping import shown
from prunecore.files import values
from prunecore.files.paths import is_file
from prunecore.files.shards import INDEX, SHARD_SIZE, shard_size_of
from prunecore.planning.goal import TARGETS
from prunecore.planning.request import DEFAULT_BACKEND, NO_RECOVERY, RECOVERY_STEPS
from prunecore.plugins import loading

if TYPE_CHECKING:
    from rich.table import Table

    from prunecore.cli.jobs import Result
    from prunecore.inputs import Inputs


# new objects after which Python looks for garbage: by its own 700, that takes a fifth of the time
# in which torch is imported
COLLECT_AFTER = 10_000


PIPE_WIDTH = 240  # columns of a table that no terminal shows: nothing is wrapped or cut


class _Commands(options.Commands, PluginCommands):
    """Those below and those of plugins; the errors of both are shown alike."""


@click.group("prunecore", cls=_Commands)
@click.version_option(package_name="prunecore")
@options.debug
def main() -> None:
    """Make trained networks smaller by removing whole channels.

    MODEL is a torchvision name (resnet50), package.module:factory or file.py:factory.
    """
    gc.set_threshold(COLLECT_AFTER)


@main.command()
@click.argument("model", required=False)
@click.option(
    "--level",
    "pruning_perc",
    metavar="PERCENT",
    multiple=True,
    callback=options.checked(lambda texts: values.read_levels(texts) if texts else None),
    help="How much to remove, above 0 and below 100. May be repeated.",
)
@click.option(
    "--to",
    metavar="GOAL",
    multiple=True,
    callback=options.checked(lambda texts: values.read_goals(texts) if texts else None),
    help="In the place of a level, what is to be left: 5M-params, 1.5G-macs, 12MB, 500-channels, "
    "12ms. May be repeated.",
)
@click.option(
    "--mode",
    help="How channels are scored: magnitude, fisher, random and others.  [default: magnitude, or "
    "surgeon with --calibrate]",
)
@click.option(
    "--members",
    metavar=",".join(PARTS),
    callback=options.checked(values.read_members),
    help="What of a channel counts: some of these.  [default: the mode's]",
)
@click.option(
    "--reduce",
    metavar="|".join(REDUCTIONS),
    callback=options.checked(values.read_reduction),
    help="How the members' values become one.  [default: the mode's]",
)
@click.option(
    "--normalize",
    metavar="|".join(NORMALIZATIONS),
    callback=options.checked(values.read_normalization),
    help="How groups of coupled layers compare.  [default: the mode's]",
)
@options.path_option(
    "--calibrate",
    "calibrate",
    "FOLDER",
    "Images without labels to score channels by, and to refit the smaller network on.",
)
@click.option(
    "--recover",
    metavar="|".join((*RECOVERY_STEPS, NO_RECOVERY)),
    multiple=True,
    callback=options.checked(lambda steps: values.read_steps(steps) if steps else None),
    help="What gives the accuracy back, after the proof; may be repeated.  [default: refit, with "
    "--calibrate]",
)
@click.option(
    "--target",
    metavar="|".join(TARGETS),
    callback=options.checked(values.read_target),
    help="What the level is a percentage of.  [default: params]",
)
@click.option(
    "--latency",
    metavar="BACKEND|TABLE.json",
    callback=options.checked(values.read_text),
    help="What runs networks here to measure latencies, eager or onnxruntime; or a table of layer "
    f"latencies.  [default: {DEFAULT_BACKEND}]",
)
@click.option(
    "--count",
    metavar="N",
    callback=options.checked(lambda text: values.read_count(values.read_yaml(text))),
    help="Write N networks a level, NET_LEVEL_1 to NET_LEVEL_N, each from the next seed.",
)
@click.option(
    "--steps",
    metavar="N",
    callback=options.checked(lambda text: values.read_step_count(values.read_yaml(text))),
    help="Reach the level in N steps, at most 100, and score channels anew in each.  [default: 1]",
)
@options.limits
@click.option(
    "--remove-blocks",
    is_flag=True,
    default=None,
    help="Let residual blocks go as a whole where their inner width has come to the minimum.",
)
@click.option(
    "--drop",
    metavar="PATH",
    multiple=True,
    callback=options.checked(lambda paths: values.read_modules(paths) if paths else None),
    help="Leave out a module that only training reaches, such as an auxiliary head; `training` for "
    "all that only training does; PATH.hooks for a module's forward hooks. May be repeated.",
)
@options.strict
@options.weights
@options.input_shape
@options.inputs
@options.module
@options.arguments
@click.option(
    "--name",
    "net_name",
    metavar="NET",
    callback=options.checked(values.read_net_name),
    help="The written network's name.  [default: the factory's]",
)
@options.seed
@options.path_option(
    "--output", "output", "DIR", "Where the files go.  [default: the current folder]"
)
@click.option(
    "--shard-size",
    metavar="SIZE",
    callback=options.checked(shard_size_of),
    help="Write weights that are larger in several files of at most this size, and an index.  "
    f"[default: {SHARD_SIZE}]",
)
@options.path_option(
    "--config", "config_file", "FILE", "A .yaml or .ini file with all of this; flags win over it."
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.option("--no-verify", is_flag=True, help="Do not check the written network.")
@options.as_json
@options.debug
def prune(
    model: str | None,
    config_file: Path | None,
    output: Path | None,
    force: bool,
    no_verify: bool,
    as_json: bool,
    calibrate: Path | None,
    **flags: Any,
) -> None:
    """Remove channels of MODEL; write the smaller network, its weights and a report.

    The files NET_LEVEL.py, NET_LEVEL.safetensors and NET_LEVEL.json belong together. Of several
    sets, those that are there already, written with the same inputs, are left as they are.
    """
    from prunecore.calibration import Calibration
    from prunecore.cli import jobs
    from prunecore.files.config import Config, read_config

    config = Config()
    if config_file:
        config = read_config(config_file, elsewhere=loading.installed_sections())
    if output:
        flags |= {"project_dir": output, "model_path": Path()}
    if flags["to"] or flags["pruning_perc"]:  # in place of all that the file asks for
        flags |= {name: flags[name] or () for name in ("to", "pruning_perc")}
    values.check_inputs(flags["input_shape"], flags["inputs"])
    if flags["input_shape"] or flags["inputs"]:  # likewise
        model_section = replace(config.model, input_shape=None, inputs=None)
        config = replace(config, model=model_section)
    flags["arguments"] = {**config.model.arguments, **flags["arguments"]}
    config = replace(
        config,
        model=_overridden(config.model, {**flags, "name": model}),
        pruner=_overridden(config.pruner, flags),
    )
    if calibrate:
        given = config.calibration or Calibration(calibrate)
        config = replace(config, calibration=replace(given, images=str(calibrate)))
    results: list[jobs.Result] = []
    try:
        with redirect_stdout(sys.stderr):  # what the user's own code prints is no result
            for result in jobs.prune_levels(config, force, not no_verify):
                results.append(result)  # one by one: those before an error are shown too
    finally:
        if results:
            _show_results(results, as_json)


def _overridden(section: Any, flags: Mapping[str, Any]) -> Any:
    """A section of the configuration with the flags that were given in place of its values."""
    names = [field.name for field in fields(section)]
    return replace(section, **{name: flags[name] for name in names if flags.get(name) is not None})


def _show_results(results: Sequence[Result], as_json: bool) -> None:
    from prunecore.cli import tables
    from prunecore.files.reports import report

    reports = [result.report for result in results]
    for result in results:
        if result.resumed:
            options.say(
                f"Skipped {result.path}: written already with the same inputs "
                "(--force writes it again).",
                err=True,
            )
    if as_json:
        for done in reports:
            click.echo(report.report_line(done))
    else:
        _print_table(tables.prune_table(reports))
        for result in (result for result in results if not result.resumed):
            path, shards = result.path, len(result.report["sha256"]["shards"])
            ending = f"{INDEX} with {shards} shards," if shards else ".safetensors"
            options.say(f"Wrote {path}, and {path.stem}{ending} and .json beside it.")
    told = (
        tables.level_lines,
        tables.undone_lines,
        tables.few_lines,
        tables.spread_lines,
        tables.whole_lines,
    )
    lines = [lines_of(report) for lines_of in told for report in reports]
    for line in dict.fromkeys(itertools.chain.from_iterable(lines)):
        options.say(line, err=True)


def _print_table(table: Table) -> None:
    from rich.console import Console

    # a name such as [red] is no markup
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, markup=False, emoji=False)
    console.print(table)


@main.command()
@click.argument("model")
@click.option(
    "--sensitivity",
    is_flag=True,
    help="Prune and refit each group of coupled layers alone, and show how far the network then "
    "agrees with the original.",
)
@options.path_option(
    "--calibrate", "calibrate", "FOLDER", "Images without labels for the sensitivity."
)
@options.path_option("--picture", "picture", "FILE", "Draw the sensitivity: .svg or .png.")
@options.strict
@options.weights
@options.input_shape
@options.inputs
@options.module
@options.arguments
@options.as_json
@options.debug
def inspect(
    model: str,
    sensitivity: bool,
    calibrate: Path | None,
    picture: Path | None,
    strict: bool | None,
    weights: Path | None,
    input_shape: tuple[tuple[int, ...], ...] | None,
    inputs: Inputs | None,
    module: str | None,
    arguments: dict[str, Any],
    as_json: bool,
) -> None:
    """Show the layers of MODEL, which of them are coupled, parameters and MACs."""
    from prunecore.cli import jobs, pictures, tables
    from prunecore.files import models
    from prunecore.files.reports import report

    for name, given in (("calibrate", calibrate), ("picture", picture), ("weights", weights)):
        if given is not None and not sensitivity:
            raise UsageError(f"--{name} is read with --sensitivity alone.\nGive both, or neither.")
    if sensitivity and calibrate is None:
        raise UsageError("--sensitivity looks at images.\nGive some: --calibrate FOLDER.")
    values.check_inputs(input_shape, inputs)
    if picture is not None:
        pictures.check_picture(picture)
    with redirect_stdout(sys.stderr):
        if calibrate is None:
            loaded = jobs.part_of(models.load_structure(model, arguments), module)
        else:
            loaded = jobs.part_of(jobs.load(model, arguments, weights, seed=0), module)
        called_with = jobs.inputs_of(loaded, input_shape, inputs)
        name = jobs.name_of(model, module)
        found = jobs.inspect_network(
            loaded.model, called_with, name, calibrate, bool(strict)
        ).report
    if picture is not None:
        pictures.draw_sensitivity(found, picture)
    if as_json:
        click.echo(report.report_line(found))
        return
    _print_table(tables.inspection_table(found))
    if sensitivity:
        _print_table(tables.sensitivity_table(found))
    for line in tables.whole_lines(found):
        options.say(line)
    if picture is not None:
        options.say(f"Wrote {picture}.")


@main.command()
@click.argument("file", callback=options.checked(values.read_path))
@click.argument("model")
@options.weights
@options.input_shape
@options.inputs
@options.module
@options.arguments
@options.seed
@click.option(
    "--no-run",
    is_flag=True,
    help="Run nothing of FILE: check that its text is the written one, and each tensor of the "
    "weights against MODEL's.",
)
@options.debug
def verify(
    file: Path,
    model: str,
    weights: Path | None,
    input_shape: tuple[tuple[int, ...], ...] | None,
    inputs: Inputs | None,
    module: str | None,
    arguments: dict[str, Any],
    seed: int | None,
    no_run: bool,
) -> None:
    """Check the written FILE against MODEL, the network that it was made from.

    FILE is imported, which runs it, as MODEL is: read first what is a stranger's, or give --no-run.

    Give the weights (or the seed), arguments and input shape that it was made with.
    """
    from prunecore import verification
    from prunecore.cli import jobs
    from prunecore.inputs import of_shape

    if not is_file(file):
        raise UsageError(f"There is no file {shown(file)}.")
    values.check_inputs(input_shape, inputs)
    with redirect_stdout(sys.stderr):
        loaded = jobs.part_of(jobs.load(model, arguments, weights, seed or 0), module)
        called_with = inputs or (of_shape(input_shape) if input_shape else None)
        if no_run:
            recovered = verification.check_set(file, loaded.model, called_with)
            found = (
                f"is the text that was written, and its weights are those of {model} without the "
                "removed channels. Nothing of it was run: what it computes was not compared."
            )
        else:
            proof = verification.verify_set(file, loaded.model, called_with)
            recovered = proof.recovered
            found = (
                f"computes what {model} does without the removed channels: relative difference "
                f"at most {proof.max_relative_difference:.0e} over {_inputs(proof.inputs)}."
            )
    options.say(f"{file} {found}")
    if recovered:
        proven = f"That proves the file with the weights of {model} as they were cut. "
        options.say(
            f"{'' if no_run else proven}{len(recovered)} tensors were refitted, estimated anew or "
            "trained afterwards: they are finite, and not compared."
        )


def _inputs(number: int) -> str:
    return "1 input" if number == 1 else f"{number} inputs"


@main.command()
@click.argument("model")
@options.path_option("--output", "output", "FILE", "Where the table goes: a .json.")
@click.option(
    "--latency",
    metavar="BACKEND",
    callback=options.checked(values.read_text),
    help=f"What runs them: eager, or onnxruntime.  [default: {DEFAULT_BACKEND}]",
)
@options.round_to("Measure widths that are multiples of N, as networks will have that are cut so.")
@options.input_shape
@options.inputs
@options.module
@options.arguments
@click.option("--force", is_flag=True, help="Replace a table that exists.")
@options.debug
def latency(
    model: str,
    output: Path | None,
    latency: str | None,
    round_to: int | None,
    input_shape: tuple[tuple[int, ...], ...] | None,
    inputs: Inputs | None,
    module: str | None,
    arguments: dict[str, Any],
    force: bool,
) -> None:
    """Measure on this machine how long the layers of MODEL take, at several widths.

    On any other machine, `prunecore prune --to 12ms --latency FILE` then looks them up.
    """
    from prunecore.cli import jobs
    from prunecore.files import latency_tables, models

    if output is None:
        raise UsageError("Where does the table go?\nGive --output board.json.")
    values.check_inputs(input_shape, inputs)
    latency_tables.check_target(output, force)
    with redirect_stdout(sys.stderr):
        loaded = jobs.part_of(models.load_model(model, arguments, seed=0), module)
        given, name = jobs.inputs_of(loaded, input_shape, inputs), jobs.name_of(model, module)
        table = jobs.measure_layers(
            loaded.model, given, name, latency or DEFAULT_BACKEND, round_to or 1
        )
        latency_tables.write_table(table, output)
    options.say(
        f"Wrote {output}: {len(table.layers)} layers of {name}, which takes {table.ms[0]:.3g} ms "
        f"({table.backend}, {table.threads} {'thread' if table.threads == 1 else 'threads'})."
    )


main.add_command(plugins)
