"""The check of a plugin as it is installed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from prunecore import plugins as plugin_registry
from prunecore.channels import Channels
from prunecore.dependencies import Dependencies, merge
from prunecore.errors import unknown_name
from prunecore.functions import FunctionRule
from prunecore.plugins import BLOCK_VARIABLE, Plugin, Plugins
from prunecore.testing.faults import check_errors

_FOR_OWNERS = ("prunecore_calculate_dependencies", "prunecore_write_block")
_BLOCK_HOOKS = (*_FOR_OWNERS, "prunecore_transfer_weights")


def check_plugin(name: str) -> None:
    """Check an installed plugin: what its hooks answer, and what is said where they fail.

    Args:
        name: of its entry point, `resnet`.

    Raises:
        AssertionError: something does not hold; the message says what.
        PrunecoreError: there is no such plugin, it cannot be loaded, or others are in its way.
    """
    found = {plugin.name: plugin for plugin in plugin_registry.installed()}
    if name not in found:
        raise unknown_name("plugin", name, found)
    if found[name].blocked:
        raise AssertionError(f"Plugin {name} is blocked.\nTake it out of {BLOCK_VARIABLE}.")
    plugin = plugin_registry.load_one(found[name])
    _check_block_types(plugin)
    _check_functions(plugin)
    _check_criteria(plugin)
    together = plugin_registry.load()
    _ = together.functions, together.criteria  # no other plugin gives the same
    check_errors(plugin)


def _check_block_types(plugin: Plugin) -> None:
    hook = "prunecore_block_types"
    if hook not in plugin.hooks:
        idle = [name for name in _BLOCK_HOOKS if name in plugin.hooks]
        if idle:
            raise AssertionError(
                f"{plugin.label} has {idle[0]}, which is never called, as it has no {hook}."
            )
        return
    for block_type in _each(plugin, hook, "module classes"):
        if not (inspect.isclass(block_type) and issubclass(block_type, nn.Module)):
            raise AssertionError(
                f"{plugin.label}: {hook} names {block_type!r}, not a module class."
            )
    missing = [name for name in _FOR_OWNERS if name not in plugin.hooks]
    if missing:
        raise AssertionError(
            f"{plugin.label} owns blocks but has no {missing[0]}.\nAn owner has all of "
            f"{', '.join(_FOR_OWNERS)}."
        )


def _each(plugin: Plugin, hook: str, what: str) -> list[Any]:
    answer = plugin.gather(hook)
    if not isinstance(answer, Iterable) or isinstance(answer, str | Mapping):
        raise AssertionError(
            f"{plugin.label}: {hook} returned {type(answer).__name__}, not a sequence of {what}."
        )
    return list(answer)


def _mapping(plugin: Plugin, hook: str) -> Mapping[Any, Any]:
    answer = plugin.gather(hook)
    if not isinstance(answer, Mapping):
        raise AssertionError(
            f"{plugin.label}: {hook} returned {type(answer).__name__}, not a mapping."
        )
    return answer


def _check_functions(plugin: Plugin) -> None:
    hook = "prunecore_functions"
    if hook not in plugin.hooks:
        return
    for function, rule in _mapping(plugin, hook).items():
        name = getattr(function, "__name__", repr(function))
        if not callable(function) or not isinstance(rule, FunctionRule):
            raise AssertionError(
                f"{plugin.label}: {hook} gives {type(rule).__name__} for {name}, not a "
                "FunctionRule for a function."
            )
        if not callable(rule.calculate) or not (rule.rewrite is None or callable(rule.rewrite)):
            raise AssertionError(
                f"{plugin.label}: {hook} gives {name} a rule that cannot be called.\n"
                "FunctionRule takes the functions calculate and, if needed, rewrite."
            )


def _check_criteria(plugin: Plugin) -> None:
    hook = "prunecore_criteria"
    if hook not in plugin.hooks:
        return
    dependencies = _small_network()
    for name, criterion in _mapping(plugin, hook).items():
        if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
            raise AssertionError(
                f"{plugin.label}: {hook} names a mode {name!r}.\n"
                "A mode is lower-case words joined by hyphens."
            )
        scores = [_scores(plugin, name, criterion, dependencies) for _ in range(2)]
        if scores[0].shape != (dependencies.count,) or not np.isfinite(scores[0]).all():
            raise AssertionError(
                f"{plugin.label}: the mode {name} gives scores of shape {scores[0].shape} for "
                f"{dependencies.count} channels; it must give one finite number for each."
            )
        if not np.array_equal(*scores):
            raise AssertionError(
                f"{plugin.label}: the mode {name} scores otherwise the second time, with the same "
                "seed.\nDraw every number from a generator of that seed."
            )


def _scores(
    plugin: Plugin, name: str, criterion: Callable[..., Any], dependencies: Dependencies
) -> Any:
    try:
        return np.asarray(criterion(dependencies, dependencies.tensors, 0), dtype=np.float64)
    except Exception as error:  # whatever a stranger's code raises
        raise AssertionError(
            f"{plugin.label}: the mode {name} raised {type(error).__name__}: {error}"
        ) from error


def _small_network() -> Dependencies:
    """Two layers of weights, the second without its bias bound."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Module()
    network.first = nn.Parameter(torch.randn(8, 3, 3, 3, generator=generator))
    network.bias = nn.Parameter(torch.randn(8, generator=generator))
    network.second = nn.Parameter(torch.randn(4, 8, generator=generator))
    channels = Channels(network, Plugins([]))
    hidden, leaving = channels.fresh(8), channels.fresh(4)
    channels.bind(network.first, 0, hidden, filters=True)
    channels.bind(network.bias, 0, hidden)
    channels.bind(network.second, 1, hidden)
    channels.bind(network.second, 0, leaving, filters=True)
    channels.pin(leaving, "it is an output of the network")
    return merge(network, channels.records)
