"""Find, load, block and list plugins, and the commands that distributions bring."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points, version
from typing import TYPE_CHECKING, Any

import pluggy

from prunecore import hookspecs
from prunecore.errors import BLOCK_VARIABLE, GROUP, PluginError, told, unknown_name

if TYPE_CHECKING:
    from prunecore.registry import Plugin, Plugins

COMMANDS = "prunecore.commands"  # the entry points that are commands
SECTIONS = "prunecore.sections"  # and sections of a configuration that such commands read

HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("prunecore_"))


@dataclass(frozen=True)
class Installed:
    """A plugin, or a command that a plugin brings, as its metadata tells of it, not loaded."""

    name: str
    distribution: str
    version: str
    blocked: bool
    entry_point: EntryPoint = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"

    @property
    def kind(self) -> str:
        """`plugin`, or `command`."""
        return "command" if self.entry_point.group == COMMANDS else "plugin"


def blocked_names() -> frozenset[str]:
    """The plugins that the environment blocks."""
    names = os.environ.get(BLOCK_VARIABLE, "").split(",")
    return frozenset(name.strip() for name in names if name.strip())


def installed() -> list[Installed]:
    """Every installed plugin, read from metadata: nothing is imported.

    Raises:
        UsageError: a blocked name that no installed plugin or command has.
    """
    found = _installed(GROUP)
    known = {one.name for one in (*found, *_installed(COMMANDS))}
    for name in blocked_names().difference(known):
        raise unknown_name(f"plugin in {BLOCK_VARIABLE}", name, known)
    return found


def installed_commands() -> list[Installed]:
    """Every command that a plugin brings, read from metadata: nothing is imported.

    Those of a distribution with a plugin that is blocked are blocked with it.
    """
    blocked = {plugin.distribution for plugin in _installed(GROUP) if plugin.blocked}
    return [
        replace(command, blocked=command.blocked or command.distribution in blocked)
        for command in _installed(COMMANDS)
    ]


def installed_sections() -> frozenset[str]:
    """The sections of a configuration that commands of plugins read, from metadata alone."""
    return frozenset(entry_point.name for entry_point in entry_points(group=SECTIONS))


def _installed(group: str) -> list[Installed]:
    """What the entry points of a group name, by name and distribution.

    Where the metadata is damaged, a distribution goes by the module that it names.
    """
    blocked = blocked_names()
    found = []
    for entry_point in entry_points(group=group):
        fields: Any = entry_point.dist.metadata if entry_point.dist else {}
        name = fields.get("Name") or entry_point.value.partition(":")[0]
        number = fields.get("Version") or "unknown"
        found.append(
            Installed(entry_point.name, name, number, entry_point.name in blocked, entry_point)
        )
    return sorted(found, key=lambda one: (one.name, one.distribution))


def load_one(plugin: Installed) -> Plugin:
    """Import one plugin and check its hooks.

    Raises:
        PluginError: it was made for other versions, does not import, or has a hook that does not
            exist.
    """
    return register(load_object(plugin), plugin.name, str(plugin))


def load_object(plugin: Installed) -> Any:
    """Import what an entry point names: the module of a plugin, the object of a command.

    Raises:
        PluginError: it was made for other versions, or does not import.
    """
    from prunecore.plugins.requirements import unmet

    start = f"Failed to load {plugin.kind} {plugin.name} ({plugin})"
    if plugin.entry_point.dist and (wrong := unmet(plugin.entry_point.dist)):
        name, why = wrong
        raise PluginError(
            f"{start}: {why}.\n"
            f"Install versions that fit, pip install --upgrade {plugin.distribution} {name}, "
            f"or block it: {BLOCK_VARIABLE}={plugin.name}."
        )
    try:
        return plugin.entry_point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a stranger's module raises on import
        raise PluginError(
            f"{start}: {told(error)}\n"
            f"Reinstall it in a version that fits prunecore {version('prunecore')}, or block it: "
            f"{BLOCK_VARIABLE}={plugin.name}."
        ) from error


def register(module: Any, name: str, label: str) -> Plugin:
    """Check a module's hooks and make it a `Plugin`.

    Raises:
        PluginError: a hook that does not exist, or with arguments that it does not have.
    """
    from prunecore.plugins.answers import checked
    from prunecore.registry import Plugin

    manager = pluggy.PluginManager("prunecore")
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module, name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        unknown = [hook for hook in _implementations(manager, module) if hook not in HOOKS]
        near = get_close_matches(unknown[0], HOOKS, n=1) if unknown else []
        hint = f" Did you mean {near[0]}?" if near else ""
        raise PluginError(
            f"Plugin {name} ({label}) has a hook that prunecore does not: "
            f"{', '.join(unknown) or str(error).splitlines()[-1]}.{hint}\n"
            f"Correct it, or block the plugin: {BLOCK_VARIABLE}={name}."
        ) from error
    hooks = tuple(hook for hook in _implementations(manager, module) if hook in HOOKS)
    return Plugin(name, label, hooks, manager.hook, checked)


def _implementations(manager: pluggy.PluginManager, module: Any) -> list[str]:
    return [name for name in dir(module) if manager.parse_hookimpl_opts(module, name) is not None]


@functools.cache
def _load_own() -> Plugin:
    from prunecore.plugins import builtin

    return register(builtin, "builtin", f"prunecore {version('prunecore')}")


@functools.cache
def _load_installed(blocked: frozenset[str]) -> tuple[Plugin, ...]:
    return tuple(load_one(plugin) for plugin in installed() if plugin.name not in blocked)


def load() -> Plugins:
    """Load the core's own rules and every installed plugin that is not blocked.

    Raises:
        PluginError: a plugin that is broken, or two that own the same class.
    """
    from prunecore.registry import Plugins

    return Plugins(load_each())


def load_each() -> list[Plugin]:
    """Load the same plugins, and leave it open whether they go together.

    Raises:
        PluginError: a plugin that is broken.
    """
    return [_load_own(), *_load_installed(blocked_names())]
