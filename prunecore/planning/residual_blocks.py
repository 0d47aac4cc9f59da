"""Residual blocks that may go as a whole: which they are, and when their branch has closed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from prunecore.channels.dependencies import ChannelArray, Dependencies
from prunecore.channels.ids import FIXED, counted
from prunecore.channels.keep import Keep
from prunecore.channels.names import is_of_torch, is_within
from prunecore.channels.records import Visit
from prunecore.channels.signal import Signal
from prunecore.inputs import Inputs, tensors
from prunecore.isolation.state import kept_contents
from prunecore.tracing.modules.module_hooks import hooks_in
from prunecore.verifying.masking import masked_original
from prunecore.verifying.running import Run


@dataclass(frozen=True)
class ResidualBlock:
    """A module that returns its input, plus what its branch makes of it.

    Attributes:
        path: its path in the network.
        trunk: the channels that it is given and returns.
        layers: (channels read, channels made) of each layer in it that mixes channels.
        own: the channels that nothing outside has.
    """

    path: str
    trunk: ChannelArray
    layers: tuple[tuple[ChannelArray, ChannelArray], ...]
    own: ChannelArray

    def is_closed(self, kept: NDArray[np.bool_], min_channels: int) -> bool:
        """True if every way through the branch passes a layer that is at its minimum.

        A gate beside the way, such as squeeze-and-excitation, does not close it, nor does a layer
        that was as narrow from the start.

        Args:
            kept: whether each channel of the network stays, shape `(channels,)`.
            min_channels: what every layer keeps at least.
        """
        trunk, reached = np.zeros(len(kept), dtype=bool), np.zeros(len(kept), dtype=bool)
        trunk[self.trunk] = reached[self.trunk] = True
        waiting = list(self.layers)
        while open_layers := [layer for layer in waiting if reached[layer[0]].any()]:
            waiting = [layer for layer in waiting if not reached[layer[0]].any()]
            for _, made in open_layers:
                if trunk[made].any():
                    return False
                if kept[made].all() or _can_go_on(made[kept[made]], min_channels):
                    reached[made] = True
        return True


def _can_go_on(made: ChannelArray, min_channels: int) -> bool:
    """True if a layer that makes these channels may lose another one: a head has many places."""
    _, places = counted(made)
    return len(made) - int(places.min(initial=len(made))) >= min_channels


def find_residual_blocks(
    model: nn.Module, dependencies: Dependencies, inputs: Inputs
) -> list[ResidualBlock]:
    """Find the residual blocks whose shortcut is the identity.

    A block is one if it returns the channels that it is given and, with zeros for all of its
    weights, returns its very input: in float64, on random inputs of the network. A block that ends
    with an activation is one where the activation changes nothing of what it is given.

    Args:
        model: the network; it is left exactly as it is.
        dependencies: its channels.
        inputs: what the network is called with.

    Raises:
        VerificationError: the network cannot be run in float64.
    """
    candidates = {
        path: visits[0]
        for path, visits in dependencies.forwards.visits.items()
        if len(visits) == 1
        and path
        and not is_of_torch(type(model.get_submodule(path)))
        and _returns_its_channels(visits[0], dependencies)
        and not _shares_tensors(model, path)
    }
    blocks = [_block(path, visit, dependencies) for path, visit in candidates.items()]
    identical = _returning_their_input(
        model, dependencies, inputs, [block.path for block in blocks if block.layers]
    )
    return [block for block in blocks if block.path in identical]


def closed_residual_blocks(
    blocks: Sequence[ResidualBlock], kept: NDArray[np.bool_], min_channels: int
) -> tuple[ResidualBlock, ...]:
    """The blocks whose branch has closed, without those within another one."""
    closed = [block for block in blocks if block.is_closed(kept, min_channels)]
    paths = [block.path for block in closed]
    return tuple(
        block
        for block in closed
        if not is_within(block.path, [path for path in paths if path != block.path])
    )


def _returns_its_channels(visit: Visit, dependencies: Dependencies) -> bool:
    if len(visit.inputs) != 1:
        return False
    x, y = visit.inputs[0], visit.output
    if not isinstance(x, Signal) or not isinstance(y, Signal) or x.shape != y.shape:
        return False
    given, returned = dependencies.channel_of[x.ids], dependencies.channel_of[y.ids]
    return bool(x.channel_axes) and np.array_equal(given, returned)


def _shares_tensors(model: nn.Module, path: str) -> bool:
    """True if a module holds a tensor that the network holds elsewhere, too."""
    inside: set[int] = set()
    outside: set[int] = set()
    for named in (model.named_parameters, model.named_buffers):
        for name, tensor in named(remove_duplicate=False):
            (inside if is_within(name, [path]) else outside).add(id(tensor))
    return not inside.isdisjoint(outside)


def _block(path: str, visit: Visit, dependencies: Dependencies) -> ResidualBlock:
    inside: set[int] = set()  # indices into the dependencies' axes
    outside: set[int] = set()
    for name, axes in dependencies.bound.items():
        (inside if is_within(name, [path]) else outside).update(axes.values())
    trunk = _without_fixed(np.unique(dependencies.channel_of[visit.output.ids]))
    layers = []
    for name, axis, made in dependencies.filters:
        read = dependencies.bound[name].get(1 - axis)
        if is_within(name, [path]) and read is not None:
            arrays = dependencies.axes[read], dependencies.axes[made]
            layers.append((_without_fixed(arrays[0]), _without_fixed(arrays[1])))
    own = np.setdiff1d(_union(inside, dependencies), _union(outside, dependencies))
    return ResidualBlock(path, trunk, tuple(layers), np.setdiff1d(_without_fixed(own), trunk))


def _union(indices: Collection[int], dependencies: Dependencies) -> ChannelArray:
    arrays = [dependencies.axes[index] for index in indices]
    return np.unique(np.concatenate([*arrays, np.zeros(0, dtype=np.int64)]))


def _without_fixed(channels: ChannelArray) -> ChannelArray:
    free: ChannelArray = channels[channels != FIXED]
    return free


def _returning_their_input(
    model: nn.Module, dependencies: Dependencies, inputs: Inputs, paths: Sequence[str]
) -> set[str]:
    """Those of the modules at these paths that return their input once their weights are zero."""
    if not paths:
        return set()
    samples = inputs.samples(model)
    everything = Keep(model, dependencies, np.ones(dependencies.count, dtype=bool))
    copy = masked_original(model, everything, tensors(samples)[0].device)
    given: dict[str, Tensor] = {}

    def record(path: str) -> Any:
        return lambda _module, args: given.update({path: args[0].clone()})

    handles = [copy.get_submodule(path).register_forward_pre_hook(record(path)) for path in paths]
    with kept_contents(*hooks_in(model)):
        Run(samples, dependencies.forwards.visits).on(copy, copy)
    for handle in handles:
        handle.remove()
    return {path for path, x in given.items() if _returns(copy.get_submodule(path), x)}


def _returns(block: nn.Module, x: Tensor) -> bool:
    stored = [*block.named_parameters(), *block.named_buffers()]
    zeros = {name: torch.zeros_like(tensor) for name, tensor in stored}
    with torch.no_grad():
        return torch.equal(functional_call(block, zeros, (x.clone(),)), x)
