"""`prunecore plugins`: the installed families and commands, and a project for a new one.

Whatever needs torch is imported inside the commands, so that the list answers at once.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prunecore.cli import options
from prunecore.cli.plugin_commands import load_command
from prunecore.errors import PluginError, Provider, UsageError
from prunecore.files import values
from prunecore.plugins import loading as registry

if TYPE_CHECKING:
    from prunecore.plugins.loading import Installed


@click.group(invoke_without_command=True, cls=options.Commands)
@click.option("--check", is_flag=True, help="Load each, and say whether it works.")
@options.as_json
@options.debug
@click.pass_context
def plugins(context: click.Context, check: bool, as_json: bool) -> None:
    """List the installed plugins and their commands; start a new plugin."""
    if context.invoked_subcommand:
        if check or as_json:
            raise UsageError("--check and --json go with the list, prunecore plugins, alone.")
        return
    found, commands = registry.installed(), registry.installed_commands()
    rows = [_checked_plugin(plugin) if check else _listed_plugin(plugin) for plugin in found]
    main = context.find_root().command
    for command in commands:
        rows.append(_checked_command(command, commands, main) if check else _listed_plugin(command))
    for row in rows:
        options.say(json.dumps(row, sort_keys=True) if as_json else _plugin_text(row))
    if not found:
        options.say("No plugin is installed; all families: pip install 'prunecore[all]'", err=True)
    if any(row.get("status", "").startswith("failed") for row in rows):
        raise SystemExit(1)
    if check:
        registry.load()  # two that work alone may still both own one class


def _listed_plugin(plugin: Installed) -> dict[str, Any]:
    return {
        "kind": plugin.kind,
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "blocked": plugin.blocked,
    }


def _checked_plugin(plugin: Installed) -> dict[str, Any]:
    importlib.import_module("torchvision.models")  # else families do not name its classes
    row = _listed_plugin(plugin)
    if plugin.blocked:
        return row
    try:
        loaded = registry.load_one(plugin)
        hooks = ("prunecore_block_types", "prunecore_functions", "prunecore_criteria")
        types, *_ = [loaded.gather(hook) for hook in hooks]
    except PluginError as error:
        return {**row, "status": f"failed: {error}"}
    names = sorted(block_type.__qualname__ for block_type in types)
    return {**row, "status": "ok", "block_types": names, "hooks": list(loaded.hooks)}


def _checked_command(
    command: Installed, commands: Sequence[Installed], main: click.Command
) -> dict[str, Any]:
    row = _listed_plugin(command)
    if command.blocked:
        return row
    try:
        if isinstance(main, click.Group) and command.name in main.commands:
            raise Provider(command.name, str(command)).error(
                f"the command {command.name} is hidden by prunecore's own of that name"
            )
        load_command([one for one in commands if one.name == command.name])
    except PluginError as error:
        return {**row, "status": f"failed: {error}"}
    return {**row, "status": "ok"}


def _plugin_text(row: Mapping[str, Any]) -> str:
    kind = "" if row["kind"] == "plugin" else row["kind"]
    status = "blocked" if row["blocked"] else row.get("status")
    state = ", ".join(filter(None, (kind, status)))
    lines = [f"{row['name']:16} {row['distribution']} {row['version']}  {state}".rstrip()]
    for key, title in (("block_types", "blocks"), ("hooks", "hooks")):
        if row.get(key):
            lines.append(f"  {title}: {', '.join(row[key])}")
    return "\n".join(lines)


@plugins.command()
@click.argument("name")
@click.option(
    "--block",
    metavar="PACKAGE.MODULE:CLASS",
    help="The class that the plugin is for; its hooks are filled in from its forward.",
)
@click.option(
    "--model-arg",
    "arguments",
    metavar="NAME=VALUE",
    multiple=True,
    callback=options.checked(lambda texts: dict(map(values.read_argument, texts))),
    help="An argument of that class, such as in_channels=8. May be repeated.",
)
@click.option(
    "--input-shape",
    "shapes",
    metavar="C,H,W",
    multiple=True,
    callback=options.checked(lambda texts: list(map(values.read_shape, texts))),
    help="The shape of the block's input. May be repeated, where it has several.  "
    "[default: made from its first layer]",
)
@options.path_option(
    "--output", "output", "DIR", "Where the project goes.  [default: the current folder]"
)
@options.debug
def new(
    name: str,
    block: str | None,
    arguments: dict[str, Any],
    shapes: list[tuple[int, ...]],
    output: Path | None,
) -> None:
    """Write a project prunecore-NAME for a new plugin, with hooks and a test that passes.

    Without --block it is for a small example, which you replace by your own block.
    """
    from prunecore.scaffold import project

    planned = project.plan_project(name, output or Path())
    if block is None:
        if arguments or shapes:
            raise UsageError("--model-arg and --input-shape are for the class of --block.")
        project.write_example(planned)
    else:
        from prunecore.scaffold.blocks import write_for_block

        with redirect_stdout(sys.stderr):  # what the user's own code prints is no result
            write_for_block(planned, block, arguments, shapes)
    options.say(f"Wrote {planned.folder}.")
    options.say(f"Try it: pip install -e {planned.folder} && pytest {planned.folder}", err=True)
