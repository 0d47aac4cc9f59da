"""The check of a block that a plugin owns."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunecore.channels.keep import Keep
from prunecore.errors import BLOCK_VARIABLE, UnsupportedError
from prunecore.plugins import loading as plugin_registry
from prunecore.registry import Plugin, Plugins
from prunecore.testing.agreement import difference
from prunecore.testing.exactness import check_written
from prunecore.testing.walk import Followed, Network, follow


def check_block(
    block: nn.Module,
    *shapes: Sequence[int],
    seeds: Iterable[int] = range(3),
    traceable: bool = True,
    axis: int = 1,
) -> None:
    """Check what its plugin makes of a block, in a network of its own, against the block itself.

    The plugin's calculator and the core's tracing of the block must couple the same channels. With
    channels removed at random, those of the inputs and outputs among them, what is written must
    build, load its weights strictly, be of the size that was counted, and compute in float64 what
    the block with these channels zeroed does.

    Args:
        block: an instance of a class that an installed plugin owns; it is left as it is.
        shapes: of its inputs, without the batch: `(16, 8, 8)` for 16 channels.
        seeds: of the random choices of channels.
        traceable: whether tracing its forward tells what the plugin does. If not, tracing must be
            refused or find other channels, as where the plugin takes whole heads.
        axis: along which the inputs' channels lie; the batch is axis 0.

    Raises:
        AssertionError: something does not hold; the message says what, and where.
        PrunecoreError: the block cannot be written, as in a job of the user's.
    """
    check(block, shapes, seeds, traceable, plugin_registry.load(), axis)


def check(
    block: nn.Module,
    shapes: Sequence[Sequence[int]],
    seeds: Iterable[int],
    traceable: bool,
    plugins: Plugins,
    axis: int = 1,
) -> None:
    """The same with these plugins, installed or not."""
    owner = _owner(block, plugins)
    network = Network(_varied(block))
    followed = follow(network, shapes, plugins, False, axis)
    _check_agreement(network, followed, shapes, plugins, owner, traceable, axis)
    definitions: dict[str, str] = {}
    removed, largest = 0, 0.0
    for seed in seeds:
        kept = _random_choice(followed, seed)
        removed += int((~kept).sum())
        keep = Keep(network, followed.dependencies, kept)
        written, size = check_written(network, followed, keep, plugins, owner)
        largest = max(largest, size)
        for name, text in written.items():
            if definitions.setdefault(name, text) != text:
                raise AssertionError(
                    f"{owner.label} writes {name} otherwise where other channels are kept, so that "
                    "a network cannot have two of these blocks.\n"
                    "Make what differs an argument of its constructor."
                )
    if removed == 0:
        raise AssertionError(
            f"No channel of {type(block).__name__} was removed, so that nothing is checked: "
            f"{'; '.join(sorted(set(followed.reasons.values()))) or 'none may go'}.\n"
            "Give a block with more channels, or more seeds."
        )
    if largest == 0:
        raise AssertionError(
            f"{type(block).__name__} returns zeros for random inputs, and nothing is compared.\n"
            "Give it other weights, or more seeds."
        )


def _owner(block: nn.Module, plugins: Plugins) -> Plugin:
    owner = plugins.owner(type(block))
    if owner is None:
        known = ", ".join(plugin.name for plugin in plugin_registry.installed()) or "none"
        raise AssertionError(
            f"No plugin owns {type(block).__module__}.{type(block).__qualname__}; installed: "
            f"{known}.\nInstall the plugin, name the class in prunecore_block_types, override "
            "nothing of an owned class but the constructor, and leave the plugin out of "
            f"{BLOCK_VARIABLE}."
        )
    return owner


def _varied(block: nn.Module) -> nn.Module:
    """A copy in eval mode whose tensors are not all of one value, as statistics at first are.

    A place that was cut wrongly would otherwise look like the right one.
    """
    varied = copy.deepcopy(block).cpu().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*varied.parameters(), *varied.buffers()):
            if tensor.is_floating_point() and tensor.numel() > 1 and _is_constant(tensor):
                tensor.add_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return varied


def _is_constant(tensor: Tensor) -> bool:
    return bool((tensor == tensor.flatten()[0]).all() and tensor.isfinite().all())


def _check_agreement(
    network: Network,
    followed: Followed,
    shapes: Sequence[Sequence[int]],
    plugins: Plugins,
    owner: Plugin,
    traceable: bool,
    axis: int,
) -> None:
    name = type(network.block).__name__
    try:
        traced = follow(network, shapes, plugins, True, axis)
    except UnsupportedError as error:
        if traceable:
            raise AssertionError(
                f"{name} cannot be traced, so that its plugin cannot be compared with its forward: "
                f"{error.reason}.\nPass traceable=False if that is as it should be."
            ) from error
        return
    found = difference(followed, traced)
    if found is None and not traceable:
        raise AssertionError(
            f"{name} can be traced after all.\n"
            "Leave traceable=False out, so that its plugin is compared with its forward."
        )
    if found is not None and traceable:
        where = inspect.getsourcefile(type(network.block).forward)
        raise AssertionError(
            f"{owner.label}: prunecore_calculate_dependencies does not agree with the forward of "
            f"{name} in {where}: {found}.\nLet the hook do to the ids what the forward does."
        )


def _random_choice(followed: Followed, seed: int) -> NDArray[np.bool_]:
    """Removable channels, each gone with a probability, but no axis without any."""
    found = followed.dependencies
    random = np.random.default_rng(seed)
    kept = ~found.removable | (random.random(found.count) >= random.uniform(0.2, 0.9))
    entering = [found.channel_of[signal.ids.ravel()] for signal in followed.inputs]
    for axis in [*found.axes, *entering]:
        if not np.append(kept, True)[axis].any():
            kept[random.choice(axis)] = True
    return kept
