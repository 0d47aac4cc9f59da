"""Commands that plugins bring: listed from metadata alone, imported where one is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from prunecore.errors import (
    BLOCK_VARIABLE,
    PluginError,
    Provider,
    PrunecoreError,
    UsageError,
    told,
)
from prunecore.plugins import loading
from prunecore.plugins.loading import Installed

_FOUND = "prunecore.installed_commands"
PROVIDER = "prunecore.provider"  # whose command runs: its own code may change what is installed


# the commands that prunecore's own distributions bring, for whoever asks for one that is not there
_BROUGHT_BY = {
    "adapt": "prunecore-train",
    "compare": "prunecore-train",
    "evaluate": "prunecore-train",
    "finetune": "prunecore-train",
    "sweep": "prunecore-sweep",
    "train": "prunecore-train",
}


class PluginCommands(click.Group):
    """A group that has the commands of plugins beside its own, which hide theirs of one name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, without those that are blocked."""
        brought = {one.name for one in _installed(ctx) if not one.blocked}
        return sorted(brought.union(super().list_commands(ctx)))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name; a plugin's is not imported yet.

        Raises:
            UsageError: it is of a distribution of prunecore's that is not installed.
        """
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        found = [one for one in _installed(ctx) if one.name == cmd_name]
        if found:
            return _NotLoaded(found)
        missing = _BROUGHT_BY.get(cmd_name)
        if missing and not ctx.resilient_parsing:
            raise UsageError(
                f"The command {cmd_name} comes with {missing}, which is not installed.\n"
                f"Install it: pip install {missing}"
            )
        return None

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Name the commands that are hidden, too, below all others."""
        super().format_epilog(ctx, formatter)
        for one in _installed(ctx):
            if one.name in self.commands and not one.blocked:
                formatter.write_paragraph()
                formatter.write_text(f"The command {one.name} of {one} is hidden by prunecore's.")

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for.

        Raises:
            PluginError: for whatever a plugin's command raises that is no error to be shown.
        """
        try:
            return super().invoke(ctx)
        except (PrunecoreError, click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except BrokenPipeError:  # whoever read the output has seen enough
            raise
        except Exception as error:  # whatever a stranger's command raises
            provider = ctx.meta.get(PROVIDER)
            if provider is None:
                raise
            raise provider.error(f"the command {provider.name} raised {told(error)}") from error


class _NotLoaded(click.Command):
    """Stands for a plugin's command in the help, and gives way to it where it is asked for."""

    def __init__(self, found: Sequence[Installed]) -> None:
        super().__init__(found[0].name, short_help=f"From {_labels(_usable(found))}.")
        self.found = found

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Import the command, and let it read its arguments; a broken one completes nothing."""
        try:
            if parent is not None:
                parent.meta[PROVIDER] = _provider(_only(self.found))
            command = load_command(self.found)
        except PrunecoreError:
            if not extra.get("resilient_parsing"):
                raise
            return super().make_context(info_name, [], parent, **extra)
        return command.make_context(info_name, args, parent, **extra)


def load_command(found: Sequence[Installed]) -> click.Command:
    """Import a plugin's command.

    Args:
        found: all installed commands of its name.

    Raises:
        UsageError: it is blocked.
        PluginError: it does not import, is no command, or there are several of its name.
    """
    command = _only(found)
    loaded = loading.load_object(command)
    if not isinstance(loaded, click.Command):
        kind = type(loaded).__name__
        what = f"the command {command.name} is an object of {kind}, not a click.Command"
        raise _provider(command).error(what)
    return loaded


def _only(found: Sequence[Installed]) -> Installed:
    """The one command of a name that is not blocked."""
    name = found[0].name
    usable = _usable(found)
    if not usable:
        raise UsageError(
            f"The command {name} of {found[0]} is blocked.\n"
            f"Take {name}, or the plugin of that distribution, out of {BLOCK_VARIABLE}."
        )
    _, *others = dict.fromkeys(one.distribution for one in usable)
    if others:
        raise PluginError(
            f"{_labels(usable)} each bring a command {name}.\n"
            f"Keep one of them, such as the first: pip uninstall {' '.join(others)}."
        )
    command, *again = usable
    if again:
        raise _provider(command).error(f"the command {name} is named twice")
    return command


def _installed(ctx: click.Context) -> list[Installed]:
    """The commands of plugins, which are looked for once a run: that reads all metadata."""
    found: list[Installed] | None = ctx.meta.get(_FOUND)
    if found is None:
        found = ctx.meta[_FOUND] = loading.installed_commands()
    return found


def _usable(found: Sequence[Installed]) -> list[Installed]:
    return [one for one in found if not one.blocked]


def _labels(found: Sequence[Installed]) -> str:
    return " and ".join(dict.fromkeys(map(str, found)))


def _provider(command: Installed) -> Provider:
    return Provider(command.name, str(command))
