"""The registry of loaded plugins: who owns a class, what a block is like, rules and criteria."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pluggy
from torch import nn

from prunecore.errors import (
    BLOCK_VARIABLE,
    PluginError,
    Provider,
    PrunecoreError,
    told,
    unknown_name,
)
from prunecore.isolation.uninitialised import Uninitialised

if TYPE_CHECKING:
    from prunecore.channels.layers.linear_map import LinearMap, RunningStatistics
    from prunecore.criteria.criterion import Criterion
    from prunecore.functions.rule import FunctionRule
    from prunecore.latency.backends import LatencyBackend

Known = TypeVar("Known")

RECOVER = "prunecore_recover_layer"  # the hook; `None` is an answer of it

FUNCTIONS, CRITERIA = "prunecore_functions", "prunecore_criteria"

BACKENDS = "prunecore_latency_backends"


@dataclass(frozen=True)
class Plugin(Provider):
    """A loaded plugin, which answers the hooks for the classes that it owns.

    Attributes:
        hooks: the hooks that it implements.
        relay: calls them.
        checked: called with the plugin, a hook, what it is for, its answer and arguments; returns
            the answer, or raises a `PluginError` where that cannot be used.
    """

    hooks: tuple[str, ...]
    relay: pluggy.HookRelay = field(repr=False)
    checked: Callable[[Plugin, str, str, Any, Mapping[str, Any]], Any] = field(repr=False)

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
        """Ask a hook without arguments, and return its answer; `{}` where there is no such hook.

        Raises:
            PluginError: the hook raises, or answers with what cannot be used.
        """
        return self._answer(hook, hook, {}) if hook in self.hooks else {}

    @property
    def functions(self) -> Mapping[Callable[..., Any], FunctionRule]:
        """Its rules for functions, asked for by each job: there may be more by then.

        Raises:
            PluginError: the hook raises, or answers with what cannot be used.
        """
        rules: Mapping[Callable[..., Any], FunctionRule] = self.gather(FUNCTIONS)
        return rules

    @functools.cached_property
    def criteria(self) -> Mapping[str, Criterion]:
        """Its importance criteria by name, asked for once.

        Raises:
            PluginError: the hook raises, or answers with what cannot be used.
        """
        criteria: Mapping[str, Criterion] = self.gather(CRITERIA)
        return criteria

    @functools.cached_property
    def latency_backends(self) -> Mapping[str, LatencyBackend]:
        """What it runs networks with to time them, by name, asked for once.

        Raises:
            PluginError: the hook raises, or answers with what cannot be used.
        """
        backends: Mapping[str, LatencyBackend] = self.gather(BACKENDS)
        return backends

    def _answer(self, hook: str, what: str, arguments: Mapping[str, Any]) -> Any:
        answer = self.guarded(what, getattr(self.relay, hook), **arguments)
        return self.checked(self, hook, what, answer, arguments)

    def guarded(self, what: str, job: Callable[..., Any], *inputs: Any, **keywords: Any) -> Any:
        """Run code of the plugin's, and return its result; errors name the plugin.

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
        except (PrunecoreError, KeyboardInterrupt):
            raise
        except BaseException as error:  # whatever a stranger's code raises
            raise self.error(f"{what} raised {told(error)}") from error


class Plugins:
    """The plugins of one job."""

    def __init__(self, plugins: list[Plugin]) -> None:
        self.all = plugins
        self._owners: dict[type, Plugin] = {}
        for plugin in plugins:
            for block_type in plugin.gather("prunecore_block_types"):
                what = f"prunecore_block_types names {block_type.__qualname__}"
                _claim(self._owners, block_type, plugin, what)
        # the rules for functions, the criteria and what times networks, of all plugins together
        self.functions: Mapping[Callable[..., Any], FunctionRule]
        self.functions = _together([(plugin, plugin.functions) for plugin in plugins], FUNCTIONS)
        self.criteria: Mapping[str, Criterion]
        self.criteria = _together([(plugin, plugin.criteria) for plugin in plugins], CRITERIA)
        self.latency_backends: Mapping[str, LatencyBackend]
        given = [(plugin, plugin.latency_backends) for plugin in plugins]
        self.latency_backends = _together(given, BACKENDS)

    def owner(self, block_type: type[nn.Module]) -> Plugin | None:
        """The plugin that owns a class.

        A class that overrides nothing of an owned one but its constructor belongs to its owner.
        """
        for base in block_type.__mro__:
            if base in self._owners:
                return None if _overrides(block_type, base) else self._owners[base]
        return None

    def criterion(self, name: str) -> Criterion:
        """The criterion of a mode, `l1-norm` or `l1_norm`.

        Raises:
            UsageError: no plugin gives it; lists the known ones.
        """
        if hyphened(name) not in self.criteria:
            raise unknown_name("mode", name, self.criteria)
        return self.criteria[hyphened(name)]

    def latency_backend(self, name: str) -> LatencyBackend:
        """What runs networks to time them, by its name.

        Raises:
            UsageError: no plugin gives it; lists the known ones.
        """
        if hyphened(name) not in self.latency_backends:
            raise unknown_name("latency backend", name, self.latency_backends)
        return self.latency_backends[hyphened(name)]

    def layers(self, network: nn.Module) -> dict[str, LinearMap | RunningStatistics]:
        """The layers of a network that can be refitted, by path, as their owners tell of them.

        Raises:
            PluginError: an owner answers wrongly.
        """
        found = {}
        for path, module in network.named_modules():
            owner = self.owner(type(module))
            if owner is not None and RECOVER in owner.hooks:
                layer = owner.call(RECOVER, path, block=module)
                if layer is not None:
                    found[path] = layer
        return found

    def versions(self) -> dict[str, str]:
        """Distribution name to version, the core among them."""
        return dict(plugin.label.split(" ") for plugin in self.all)


class LazyClasses(Generic[Known]):
    """What a plugin knows of classes, each found once its module is imported.

    A network that has such a block has imported it.

    Args:
        known: what is known of each class, by its path, `torchvision.models.resnet.BasicBlock`.
    """

    def __init__(self, known: Mapping[str, Known]) -> None:
        self._known = known

    def __iter__(self) -> Iterator[type[nn.Module]]:
        return iter(self.found())

    def __getitem__(self, block: nn.Module) -> Known:
        """What is known of the class of a block that is of one of them."""
        known = self.get(block)
        if known is None:
            raise KeyError(type(block))
        return known

    def get(self, block: nn.Module) -> Known | None:
        """What is known of a block's class, or of the class that it derives from, if anything."""
        found = self.found()
        return next((found[cls] for cls in type(block).__mro__ if cls in found), None)

    def found(self) -> dict[type[nn.Module], Known]:
        """What is known of each class whose module is imported."""
        found: dict[type[nn.Module], Known] = {}
        for path, known in self._known.items():
            module, _, name = path.rpartition(".")
            cls = getattr(sys.modules.get(module), name, None)
            if cls is not None:
                found[cls] = known
        return found


def hyphened(name: str) -> str:
    """A mode's name; a hyphen or an underscore, either is read."""
    return name.replace("_", "-")


def _together(answers: Sequence[tuple[Plugin, Mapping[Any, Any]]], hook: str) -> dict[Any, Any]:
    together: dict[Any, Any] = {}
    givers: dict[Any, Plugin] = {}
    for plugin, answer in answers:
        for key, value in answer.items():
            name = getattr(key, "__name__", key)
            same = key.lower() if isinstance(key, str) else key  # what a person takes for one
            _claim(givers, same, plugin, f"{hook} gives {name}")
            together[key] = value
    return together


def _claim(claims: dict[Any, Plugin], key: Any, plugin: Plugin, what: str) -> None:
    """Note whose something is, which can be only one plugin's."""
    other = claims.setdefault(key, plugin)
    if other is not plugin:
        raise plugin.disagrees(other, f"{what}, as that of {other.label} does")


def _overrides(cls: type, base: type) -> bool:
    """True if a class, or one between, replaces a method or property of its base."""
    between = cls.__mro__[: cls.__mro__.index(base)]
    return any(
        name != "__init__" and hasattr(base, name)
        for one in between
        for name, value in vars(one).items()
        if callable(value) or isinstance(value, property | staticmethod | classmethod)
    )


def is_like(
    block: nn.Module,
    make: Callable[[], nn.Module],
    alike: Mapping[type[nn.Module], type[nn.Module]] | None = None,
) -> bool:
    """True if a block has the same layers as another, with the same options, and tensors alike.

    Layers are the same where they are of one class, not of one that derives from it: that may have
    a forward of its own.

    Args:
        block: any module.
        make: makes the other, of what the block was made with; called on the meta device. A
            `functools.partial` of hashable values is called once for equal ones.
        alike: the classes of modules within the block, by those that are in their places in the
            other.
    """
    return _contents(block, alike or {}) == _contents_of(make)


def _contents_of(make: Callable[[], nn.Module]) -> object:
    if isinstance(make, functools.partial):
        args = tuple((type(value), value) for value in make.args)
        keywords = tuple((key, type(x), x) for key, x in sorted(make.keywords.items()))
        if _is_hashable((args, keywords)):
            return _contents_made(make.func, args, keywords)
    return _contents_on_meta(make)


def _is_hashable(value: object) -> bool:
    """True if a value is a key, and all that it holds."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


@functools.lru_cache(maxsize=1024)
def _contents_made(
    cls: Callable[..., nn.Module],
    args: tuple[tuple[type, Any], ...],
    keywords: tuple[tuple[str, type, Any], ...],
) -> object:
    """What is within a module of a class that is made of these, each with its type."""
    given = {key: value for key, _, value in keywords}
    return _contents_on_meta(functools.partial(cls, *(value for _, value in args), **given))


def _contents_on_meta(make: Callable[[], nn.Module]) -> object:
    with Uninitialised():
        return _contents(make(), {})


def _contents(module: nn.Module, alike: Mapping[type[nn.Module], type[nn.Module]]) -> object:
    """What is within a module: each layer by its path, and each tensor, in order, with its shape.

    A tensor that lies in two places is told by the first of them.
    """
    _, *inner = module.named_modules(remove_duplicate=False)
    layers = {
        path: (alike.get(type(layer), type(layer)), layer.extra_repr()) for path, layer in inner
    }
    first: dict[int, str] = {}
    tensors = [
        (key, tensor.shape, first.setdefault(id(tensor), key))
        for key, tensor in module.state_dict(keep_vars=True).items()
    ]
    return layers, tensors
