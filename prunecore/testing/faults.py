"""The check that an error names the plugin at fault: stand-ins for its hooks fail one by one."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunecore.channels.keep import Keep
from prunecore.hookspecs import hookimpl
from prunecore.plugins.loading import register
from prunecore.registry import RECOVER, Plugin, Plugins
from prunecore.testing.walk import PATH, Network
from prunecore.walking.network import find_dependencies
from prunecore.writing.building import transfer_weights
from prunecore.writing.text import BlockSource, Call
from prunecore.writing.writer import Writer

_PATH = f"{PATH}.{PATH}"  # no other word of a message


class _Block(nn.Module):
    """A block that the stand-ins own."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def _block_types() -> Sequence[type[nn.Module]]:
    return [_Block]


def _calculate(block: Any, inputs: Any, channels: Any) -> Any:
    return inputs[0]


def _write(block: Any, name: Any, writer: Any) -> BlockSource:
    return BlockSource(Call("nn.Identity"))


def _transfer(block: Any, name: Any, keep: Any) -> dict[str, Tensor]:
    return {}


def _recover(block: Any) -> None:
    return None


def _gives_none() -> dict[str, Any]:
    return {}


_STAND_INS: dict[str, Callable[..., Any]] = {
    "prunecore_block_types": _block_types,
    "prunecore_calculate_dependencies": _calculate,
    "prunecore_write_block": _write,
    "prunecore_transfer_weights": _transfer,
    "prunecore_recover_layer": _recover,
    "prunecore_functions": _gives_none,
    "prunecore_criteria": _gives_none,
}


def _raises() -> Any:
    raise RuntimeError("a fault of the check's own")


_FAULTS: dict[str, Callable[[], Any]] = {
    "raises": _raises,
    "returns None": lambda: None,
    "returns an object": object,
}


def check_errors(plugin: Plugin) -> None:
    """Check that each of a plugin's hooks, where it fails, is named with its plugin and block.

    Raises:
        AssertionError: an error names less, or there is none.
    """
    for hook in plugin.hooks:
        parts = [plugin.label, hook]
        if "block" in inspect.signature(_STAND_INS[hook]).parameters:
            parts.append(_PATH)
        for what, fault in _FAULTS.items():
            if hook == RECOVER and what == "returns None":
                continue  # which is what it answers for most layers
            message = _message(plugin, hook, fault)
            for part in parts:
                if part not in message:
                    raise AssertionError(
                        f"Where {hook} of {plugin.label} {what}, the error does not name {part}: "
                        f"{message or 'there is none'}"
                    )


def _message(plugin: Plugin, hook: str, fault: Callable[[], Any]) -> str:
    """What is said where one hook of a plugin of this name and version fails."""

    @functools.wraps(_STAND_INS[hook])
    def failing(*_: Any) -> Any:
        return fault()

    module = types.SimpleNamespace(
        **{name: hookimpl(stand_in) for name, stand_in in _STAND_INS.items() if name != hook},
        **{hook: hookimpl(failing)},
    )
    try:
        _use_all_hooks(Plugins([register(module, plugin.name, plugin.label)]))
    except Exception as error:  # what is not a PluginError names nothing, which is then said
        return str(error)
    return ""


def _use_all_hooks(plugins: Plugins) -> None:
    """A job in small."""
    network = Network(Network(_Block()))
    found = find_dependencies(network, [torch.empty((1, 1), device="meta")], plugins)
    keep = Keep(network, found, np.ones(found.count, dtype=bool))
    Writer(network, keep, plugins).child(network.get_submodule(_PATH), _PATH)
    transfer_weights(network, keep, plugins)
    plugins.layers(network)
