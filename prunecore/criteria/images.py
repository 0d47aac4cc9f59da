"""What criteria read of images: which layers read channels, and the network run under hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunecore.channels.dependencies import ChannelArray
from prunecore.channels.signal import Signal
from prunecore.criteria.criterion import ScoringContext
from prunecore.criteria.members import Choice, completed
from prunecore.errors import PrunecoreError, UsageError
from prunecore.escaping import shown
from prunecore.isolation.random_states import OwnDraws, kept_random_states


@dataclass(frozen=True)
class Reader:
    """A layer that mixes the channels that it reads.

    Attributes:
        path: of the layer.
        shape: of its input, with 1 for the batch and wherever channels do not differ.
        channels: the channel at each place of that shape, row-major.
    """

    path: str
    shape: tuple[int, ...]
    channels: ChannelArray


def network_of(context: ScoringContext, mode: str) -> nn.Module:
    """The network that a criterion runs.

    Raises:
        UsageError: there are no images, or parts are chosen that the criterion does not look at.
    """
    if context.model is None or not context.images:
        raise UsageError(
            f"Mode {shown(repr(mode))} reads images, and none are given.\n"
            "Give some: --calibrate FOLDER, or calibration= in Python."
        )
    if context.scoring.members not in (None, ("consumers",)):
        raise UsageError(
            f"Mode {shown(repr(mode))} looks at what consumers read, so that no other members can "
            "count.\nLeave members out."
        )
    return context.model


def chosen(context: ScoringContext, reduce: Any, normalize: Any) -> Choice:
    """The choice of a criterion that reads what consumers do."""
    return completed(context.scoring, Choice(("consumers",), reduce, normalize))


def readers(context: ScoringContext, mode: str) -> list[Reader]:
    """The layers that mix channels which they read: consumers, with one that may go at least.

    One that only passes each channel on, as a depthwise convolution, is none.

    Raises:
        UsageError: there is none, so that nothing could be told of any channel.
    """
    dependencies = context.dependencies
    makes = {(name, axis) for name, axis, _ in dependencies.filters}
    mixing = {
        name.rpartition(".")[0]
        for name, bound in dependencies.bound.items()
        if any((name, axis) not in makes for axis in bound) and dependencies.tensors[name].ndim > 1
    }
    found = []
    for path in context.linear_maps:
        visits = dependencies.forwards.visits.get(path, ())
        if path in mixing and visits and visits[0].inputs:
            read = visits[0].inputs[0]
            if isinstance(read, Signal):
                channels = dependencies.channel_of[read.ids].ravel()
                if (channels >= 0).any():
                    found.append(Reader(path, read.ids.shape, channels))
    if not found and dependencies.removable.any():
        raise UsageError(
            f"Mode {shown(repr(mode))} looks at layers that read channels, and no plugin tells of "
            "one (prunecore_recover_layer).\nChoose a mode that reads weights, such as magnitude."
        )
    return found


def run(
    model: nn.Module,
    batch: Tensor,
    before: Mapping[str, Callable[..., Any]] | None = None,
    after: Mapping[str, Callable[..., Any]] | None = None,
) -> Any:
    """Run a network under hooks, which are gone afterwards; what it draws is the same each time.

    Args:
        model: the network.
        batch: what it is called with, shape `(n, ...)`.
        before: by path, called with a module and its inputs; may return others.
        after: by path, called with a module, its inputs and its output.

    Returns:
        The network's output.
    """
    with ExitStack() as stack:
        for path, hook in (before or {}).items():
            handle = model.get_submodule(path).register_forward_pre_hook(hook)
            stack.callback(handle.remove)
        for path, hook in (after or {}).items():
            handle = model.get_submodule(path).register_forward_hook(hook)
            stack.callback(handle.remove)
        with kept_random_states(), OwnDraws():
            return model(batch)


def check_finite(tensor: Tensor, path: str, what: str) -> None:
    """Refuse values that are no finite numbers.

    Args:
        tensor: the values.
        path: of the layer.
        what: they are, in the middle of a sentence.

    Raises:
        PrunecoreError: names the layer.
    """
    if not bool(torch.isfinite(tensor).all()):
        raise PrunecoreError(
            f"{what} {shown(path)} on the calibration images are no finite numbers (NaN or "
            "infinity).\nGive other images, or look at the layers before it."
        )
