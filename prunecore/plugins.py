"""Find, load, block and list plugins; decide which of them owns a module class."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points, version
from typing import TYPE_CHECKING, Any

import pluggy

from prunecore import hookspecs
from prunecore.errors import PluginError, PrunecoreError, unknown_name

if TYPE_CHECKING:
    from torch import nn

    from prunecore.functions import FunctionRule
    from prunecore.importance import Criterion

GROUP = "prunecore"
BLOCK_VARIABLE = "PRUNECORE_BLOCK"  # names of plugins that are not to be loaded, by comma
HOOKS = sorted(name for name in vars(hookspecs) if name.startswith("prunecore_"))


@dataclass(frozen=True)
class Installed:
    """A plugin as its metadata tells of it, not loaded."""

    name: str
    distribution: str
    version: str
    blocked: bool
    entry_point: EntryPoint = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Plugin:
    """A loaded plugin, which answers the hooks for the classes that it owns."""

    name: str
    label: str  # distribution and version, for messages
    hooks: tuple[str, ...]  # the hooks that it implements
    relay: pluggy.HookRelay = field(repr=False)

    def call(self, hook: str, path: str, **arguments: Any) -> Any:
        """Call one of the plugin's hooks for the block at `path`.

        Raises:
            PluginError: the hook is not there, raises, or returns `None`.
        """
        if hook not in self.hooks:
            raise PluginError(
                f"{self.label} owns the class of {path or 'the network'} but has no hook {hook}.\n"
                f"Install a complete version of it, or block it: {BLOCK_VARIABLE}={self.name}."
            )
        answer = self.ask(hook, f" for {path or 'the network'}", **arguments)
        if answer is None:
            raise PluginError(
                f"{self.label}: {hook} returned None for {path or 'the network'}, a block of a "
                "class that it owns.\n"
                f"Report it to the plugin's author, or block it: {BLOCK_VARIABLE}={self.name}."
            )
        return answer

    def wrong_answer(self, hook: str, path: str, answer: Any, expected: str) -> PluginError:
        """The error for an answer that cannot be used."""
        return PluginError(
            f"{self.label}: {hook} returned {type(answer).__name__} for {path or 'the network'}, "
            f"not {expected}.\n"
            f"Report it to the plugin's author, or block it: {BLOCK_VARIABLE}={self.name}."
        )

    def gather(self, hook: str) -> Any:
        """What the plugin answers to a hook without arguments.

        Raises:
            PluginError: the hook raises, or returns `None`.
        """
        answers = self.ask(hook)
        if not answers:
            raise PluginError(
                f"{self.label}: {hook} returned None.\n"
                f"Report it to the plugin's author, or block it: {BLOCK_VARIABLE}={self.name}."
            )
        return answers[0]

    def ask(self, hook: str, where: str = "", **arguments: Any) -> Any:
        """Call a hook that the plugin has; what it raises is reported with the plugin's name."""
        try:
            return getattr(self.relay, hook)(**arguments)
        except PrunecoreError:
            raise
        except Exception as error:  # whatever a stranger's code raises
            raise PluginError(
                f"{self.label}: {hook} raised {type(error).__name__}{where}: {error}\n"
                f"Report it to the plugin's author, or block it: {BLOCK_VARIABLE}={self.name}."
            ) from error


class Plugins:
    """The plugins of one job."""

    def __init__(self, plugins: list[Plugin]) -> None:
        self.all = plugins
        self._owners: dict[type, Plugin] = {}
        for plugin in plugins:
            if "prunecore_block_types" in plugin.hooks:
                for block_type in plugin.gather("prunecore_block_types"):
                    self._claim(plugin, block_type)

    def _claim(self, plugin: Plugin, block_type: type) -> None:
        other = self._owners.setdefault(block_type, plugin)
        if other is not plugin:
            raise PluginError(
                f"{other.label} and {plugin.label} both own {block_type.__qualname__}.\n"
                f"Block one of them: {BLOCK_VARIABLE}={other.name} or "
                f"{BLOCK_VARIABLE}={plugin.name}."
            )

    def owner(self, block_type: type[nn.Module]) -> Plugin | None:
        """The plugin that owns a class.

        A class that overrides nothing of an owned one but its constructor belongs to its owner.
        """
        for base in block_type.__mro__:
            if base in self._owners:
                return None if _overrides(block_type, base) else self._owners[base]
        return None

    @functools.cached_property
    def functions(self) -> Mapping[Callable[..., Any], FunctionRule]:
        """The rules for functions, of all plugins together."""
        return self._gathered("prunecore_functions")

    @functools.cached_property
    def criteria(self) -> Mapping[str, Criterion]:
        """The importance criteria, of all plugins together."""
        return self._gathered("prunecore_criteria")

    def criterion(self, name: str) -> Criterion:
        """The criterion of a mode; a hyphen or an underscore, either is read."""
        wanted = name.replace("_", "-")
        if wanted not in self.criteria:
            raise unknown_name("mode", name, self.criteria)
        return self.criteria[wanted]

    def versions(self) -> dict[str, str]:
        """Distribution name to version, the core among them."""
        return dict(plugin.label.split(" ") for plugin in self.all)

    def _gathered(self, hook: str) -> dict[Any, Any]:
        gathered: dict[Any, Any] = {}
        givers: dict[Any, Plugin] = {}
        for plugin in self.all:
            if hook in plugin.hooks:
                for key, value in plugin.gather(hook).items():
                    other = givers.setdefault(key, plugin)
                    if other is not plugin:
                        name = getattr(key, "__name__", key)
                        raise PluginError(
                            f"{other.label} and {plugin.label} both give {name} in {hook}.\n"
                            f"Block one of them: {BLOCK_VARIABLE}={plugin.name}."
                        )
                    gathered[key] = value
        return gathered


def _overrides(cls: type, base: type) -> bool:
    """Whether a class, or one between, replaces a method or property of its base."""
    between = cls.__mro__[: cls.__mro__.index(base)]
    return any(
        name != "__init__" and hasattr(base, name)
        for one in between
        for name, value in vars(one).items()
        if callable(value) or isinstance(value, property | staticmethod | classmethod)
    )


def blocked_names() -> frozenset[str]:
    """The plugins that the environment blocks."""
    names = os.environ.get(BLOCK_VARIABLE, "").split(",")
    return frozenset(name.strip() for name in names if name.strip())


def installed() -> list[Installed]:
    """Every installed plugin, read from metadata: nothing is imported.

    Raises:
        UsageError: a blocked name that no installed plugin has.
    """
    blocked = blocked_names()
    found = []
    for entry_point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        distribution = entry_point.dist
        name = distribution.name if distribution else entry_point.module
        number = distribution.version if distribution else "unknown"
        found.append(
            Installed(entry_point.name, name, number, entry_point.name in blocked, entry_point)
        )
    for name in blocked - {plugin.name for plugin in found}:
        raise unknown_name(f"plugin in {BLOCK_VARIABLE}", name, [p.name for p in found])
    return found


def load_one(plugin: Installed) -> Plugin:
    """Import one plugin and check its hooks.

    Raises:
        PluginError: it does not import, or has a hook that does not exist.
    """
    try:
        module = plugin.entry_point.load()
    except Exception as error:  # whatever a stranger's module raises on import
        raise PluginError(
            f"Failed to load plugin {plugin.name} ({plugin}): {type(error).__name__}: {error}\n"
            f"Reinstall it in a version that fits prunecore {version('prunecore')}, or block it: "
            f"{BLOCK_VARIABLE}={plugin.name}."
        ) from error
    return register(module, plugin.name, str(plugin))


def register(module: Any, name: str, label: str) -> Plugin:
    """Check a module's hooks and make it a `Plugin`.

    Raises:
        PluginError: a hook that does not exist, or with arguments that it does not have.
    """
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
    return Plugin(name, label, hooks, manager.hook)


def _implementations(manager: pluggy.PluginManager, module: Any) -> list[str]:
    return [name for name in dir(module) if manager.parse_hookimpl_opts(module, name) is not None]


@functools.cache
def _load_installed(blocked: frozenset[str]) -> tuple[Plugin, ...]:
    return tuple(load_one(plugin) for plugin in installed() if plugin.name not in blocked)


def load() -> Plugins:
    """Load the core's own rules and every installed plugin that is not blocked.

    Raises:
        PluginError: a plugin that is broken, or two that own the same class.
    """
    from prunecore import glue, importance

    label = f"prunecore {version('prunecore')}"
    own = [register(glue, "functions", label), register(importance, "importance", label)]
    return Plugins([*own, *_load_installed(blocked_names())])
