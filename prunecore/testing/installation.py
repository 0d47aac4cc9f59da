"""The check of a plugin as it is installed."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import nn

from prunecore.channels.dependencies import Dependencies, merge
from prunecore.criteria.criterion import ScoringContext
from prunecore.errors import BLOCK_VARIABLE, unknown_name
from prunecore.plugins import loading as plugin_registry
from prunecore.registry import Plugin, Plugins
from prunecore.testing.faults import check_errors
from prunecore.walking.walk import Walk

_FOR_OWNERS = ("prunecore_calculate_dependencies", "prunecore_write_block")


_OF_BLOCKS = (*_FOR_OWNERS, "prunecore_transfer_weights", "prunecore_recover_layer")


_WITHOUT_BLOCK = ("prunecore_block_types", "prunecore_functions", "prunecore_criteria")


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
    _check_hooks(plugin)
    for hook in _WITHOUT_BLOCK:
        plugin.gather(hook)
    _check_criteria(plugin)
    plugin_registry.load()  # no other plugin claims the same
    check_errors(plugin)


def _check_hooks(plugin: Plugin) -> None:
    """Whoever owns classes has the hooks that owners need, and whoever has these owns classes."""
    missing = [hook for hook in _FOR_OWNERS if hook not in plugin.hooks]
    idle = [hook for hook in _OF_BLOCKS if hook in plugin.hooks]
    if "prunecore_block_types" in plugin.hooks:
        if missing:
            raise AssertionError(
                f"{plugin.label} owns classes but has no hook {missing[0]}.\n"
                f"An owner has {' and '.join(_FOR_OWNERS)}."
            )
    elif idle:
        raise AssertionError(
            f"{plugin.label} has {idle[0]}, which is never called: it owns no class.\n"
            "Name its classes in prunecore_block_types."
        )


def _check_criteria(plugin: Plugin) -> None:
    """Each criterion gives one finite number a channel, the same for the same seed."""
    found = _small_network()
    context = ScoringContext(found, found.tensors, seed=0)
    for name, criterion in plugin.gather("prunecore_criteria").items():
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
            raise AssertionError(
                f"{plugin.label}: prunecore_criteria names a mode {name!r}.\n"
                "A mode is lower-case words joined by hyphens."
            )
        first, second = (criterion(context) for _ in range(2))
        if not np.isfinite(first).all():
            raise AssertionError(
                f"{plugin.label}: the mode {name} gives scores that are not finite.\n"
                "Give every channel a number, those too that make no filter."
            )
        if not np.array_equal(first, second):
            raise AssertionError(
                f"{plugin.label}: the mode {name} scores otherwise the second time, with the same "
                "seed.\nDraw every number from a generator of that seed."
            )


def _small_network() -> Dependencies:
    """The channels of two layers, whose weights are bound by hand: the core knows no layer."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Module()
    network.first = nn.Parameter(torch.randn(8, 3, 3, 3, generator=generator))
    network.bias = nn.Parameter(torch.randn(8, generator=generator))
    network.second = nn.Parameter(torch.randn(4, 8, generator=generator))
    channels = Walk(network, Plugins([]))
    hidden, leaving = channels.fresh(8), channels.fresh(4)
    channels.bind(network.first, 0, hidden, filters=True)
    channels.bind(network.bias, 0, hidden)
    channels.bind(network.second, 1, hidden)
    channels.bind(network.second, 0, leaving, filters=True)
    channels.pin(leaving, "it is an output of the network")
    return merge(network, channels.records)
