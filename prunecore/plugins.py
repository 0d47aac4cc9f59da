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
from prunecore.errors import PluginError, PrunecoreError, told, unknown_name

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

    @property
    def is_core(self) -> bool:
        """Whether these are prunecore's own rules or criteria."""
        return self.label.split(" ")[0] == GROUP

    def call(self, hook: str, path: str, **arguments: Any) -> Any:
        """Call one of the plugin's hooks for the block at `path`.

        Raises:
            PluginError: the hook is not there, raises, or answers with what cannot be used.
        """
        if hook not in self.hooks:
            raise PluginError(
                f"{self.label} owns the class of {path or 'the network'} but has no hook {hook}.\n"
                f"Install a complete version of it, or block it: {BLOCK_VARIABLE}={self.name}."
            )
        return self._answer(hook, f"{hook} for {path or 'the network'}", arguments)

    def gather(self, hook: str) -> Any:
        """What the plugin answers to a hook without arguments; nothing where it has no such hook.

        Raises:
            PluginError: the hook raises, or answers with what cannot be used.
        """
        return self._answer(hook, hook, {}) if hook in self.hooks else {}

    def _answer(self, hook: str, what: str, arguments: Mapping[str, Any]) -> Any:
        from prunecore.answers import checked  # imports torch, which a list of plugins does without

        answer = self.guarded(what, getattr(self.relay, hook), **arguments)
        return checked(self, hook, what, answer, arguments)

    def guarded(self, what: str, job: Callable[..., Any], *inputs: Any, **keywords: Any) -> Any:
        """What a job of the plugin's returns.

        Args:
            what: the hook or rule that it is, and for which module.
            job: called with the inputs and keywords.
            inputs: of the job.
            keywords: of the job.

        Raises:
            PluginError: for whatever it raises; an error of prunecore's passes as it is.
        """
        try:
            return job(*inputs, **keywords)
        except PrunecoreError:
            raise
        except (Exception, SystemExit) as error:  # whatever a stranger's code raises
            raise self.error(f"{what} raised {told(error)}") from error

    def error(self, what: str) -> PluginError:
        """The error for what the plugin does wrong, told without its name and full stop."""
        return PluginError(
            f"{self.label}: {what.rstrip('.')}.\n"
            f"Report it to the plugin's author, or block it: {BLOCK_VARIABLE}={self.name}."
        )

    def disagrees(self, other: Plugin, what: str) -> PluginError:
        """The error for what two plugins do that only one of them may, told as in `error`."""
        if other is self:
            return self.error(what)
        blocks = [f"{BLOCK_VARIABLE}={one.name}" for one in (other, self) if not one.is_core]
        return PluginError(f"{self.label}: {what}.\nBlock one of them: {' or '.join(blocks)}.")


class Plugins:
    """The plugins of one job."""

    def __init__(self, plugins: list[Plugin]) -> None:
        self.all = plugins
        self._owners: dict[type, Plugin] = {}
        for plugin in plugins:
            for block_type in plugin.gather("prunecore_block_types"):
                what = f"prunecore_block_types names {block_type.__qualname__}"
                _claim(self._owners, block_type, plugin, what)
        # the rules for functions, and the importance criteria, of all plugins together
        self.functions: Mapping[Callable[..., Any], FunctionRule]
        self.functions = self._gathered("prunecore_functions")
        self.criteria: Mapping[str, Criterion] = self._gathered("prunecore_criteria")

    def owner(self, block_type: type[nn.Module]) -> Plugin | None:
        """The plugin that owns a class.

        A class that overrides nothing of an owned one but its constructor belongs to its owner.
        """
        for base in block_type.__mro__:
            if base in self._owners:
                return None if _overrides(block_type, base) else self._owners[base]
        return None

    def criterion(self, name: str) -> Criterion:
        """The criterion of a mode."""
        if hyphened(name) not in self.criteria:
            raise unknown_name("mode", name, self.criteria)
        return self.criteria[hyphened(name)]

    def versions(self) -> dict[str, str]:
        """Distribution name to version, the core among them."""
        return dict(plugin.label.split(" ") for plugin in self.all)

    def _gathered(self, hook: str) -> dict[Any, Any]:
        gathered: dict[Any, Any] = {}
        givers: dict[Any, Plugin] = {}
        for plugin in self.all:
            for key, value in plugin.gather(hook).items():
                name = getattr(key, "__name__", key)
                same = key.lower() if isinstance(key, str) else key  # what a person takes for one
                _claim(givers, same, plugin, f"{hook} gives {name}")
                gathered[key] = value
        return gathered


def hyphened(name: str) -> str:
    """A mode's name; a hyphen or an underscore, either is read."""
    return name.replace("_", "-")


def _claim(claims: dict[Any, Plugin], key: Any, plugin: Plugin, what: str) -> None:
    """Note whose something is, which can be only one plugin's."""
    other = claims.setdefault(key, plugin)
    if other is not plugin:
        raise plugin.disagrees(other, f"{what}, as that of {other.label} does")


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
        PluginError: it was made for other versions, does not import, or has a hook that does not
            exist.
    """
    from prunecore.requirements import unmet  # needs a while, which listing plugins need not take

    start = f"Failed to load plugin {plugin.name} ({plugin})"
    if plugin.entry_point.dist and (wrong := unmet(plugin.entry_point.dist)):
        name, why = wrong
        raise PluginError(
            f"{start}: {why}.\n"
            f"Install versions that fit, pip install --upgrade {plugin.distribution} {name}, "
            f"or block it: {BLOCK_VARIABLE}={plugin.name}."
        )
    try:
        module = plugin.entry_point.load()
    except (Exception, SystemExit) as error:  # whatever a stranger's module raises on import
        raise PluginError(
            f"{start}: {told(error)}\n"
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
