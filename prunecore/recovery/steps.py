"""The steps that give a smaller network its accuracy back, each undone where it harms."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunecore.channels.keep import Keep
from prunecore.channels.layers.linear_map import LinearMap, RunningStatistics
from prunecore.channels.signal import Signal
from prunecore.errors import UsageError
from prunecore.isolation.random_states import OwnDraws, kept_random_states
from prunecore.recovery.agreement import Agreement, agreement, outputs_of, standard_error
from prunecore.recovery.batch_norm import estimate_statistics
from prunecore.recovery.least_squares import RIDGES, Refit
from prunecore.recovery.recording import Answers, Recording

Layers = Mapping[str, LinearMap | RunningStatistics]

_VALUES = 8 * 3 * 224 * 224  # of inputs that run at a time
_HELD_BACK = 1 / 8  # of the images: what a step brings is judged by those that it has not seen


@dataclass(frozen=True)
class Networks:
    """An original, and the smaller network that is to answer as it does.

    Attributes:
        original: in eval mode; it is run, and not changed.
        small: in eval mode; its weights change.
        keep: what it has of the original.
        layers: the original's linear maps and norms, by path.
        small_layers: its own.
    """

    original: nn.Module
    small: nn.Module
    keep: Keep
    layers: Layers
    small_layers: Layers


def recover(
    networks: Networks, images: Tensor, steps: Sequence[str], seed: int
) -> list[dict[str, Any]]:
    """Take the steps one after the other, and tell what each has done.

    A part of the images is held back. If on these the network agrees less with its original after
    a step than before, by more than a standard error or with a larger error too, the step is
    undone.

    Args:
        networks: both networks.
        images: calibration inputs, shape `(n, ...)`.
        steps: of `STEPS`, in order.
        seed: of the places that the refit looks at.

    Returns:
        For each step what the report says of it: `step`, the `images` that it saw and those
        `held_back`, `agreement` and `error` before and after it, the `standard_error` of the
        former, `changed` tensors by name, and whether it was `undone`.

    Raises:
        UsageError: norms are asked for, and there are none.
        WeightsError: activations on the images are not finite.
    """
    return taken(networks, images, {step: STEPS[step] for step in steps}, seed)


def taken(
    networks: Networks, images: Tensor, steps: Mapping[str, Step], seed: int
) -> list[dict[str, Any]]:
    """Take steps one after the other, and tell what each has done; see `recover`.

    Args:
        networks: both networks.
        images: calibration inputs, shape `(n, ...)`.
        steps: by name, in order.
        seed: of the places that they look at.
    """
    held = max(1, math.floor(len(images) * _HELD_BACK))
    fit, judged = (images[:-held], images[-held:]) if len(images) > 1 else (images, images)
    batch = batch_of(images)
    told = []
    with torch.no_grad(), kept_random_states(), OwnDraws():
        expected = outputs_of(networks.original, judged, batch)
        before = agreement(expected, outputs_of(networks.small, judged, batch))
        for name, step in steps.items():
            saved = copy.deepcopy(networks.small.state_dict())
            changed = step(networks, fit, seed)
            after = agreement(expected, outputs_of(networks.small, judged, batch))
            undone = after.is_worse_than(before, len(judged))
            told.append(_told(name, (fit, judged), (before, after), changed, undone))
            if undone:
                networks.small.load_state_dict(saved)
            else:
                before = after
    return told


def batch_of(images: Tensor) -> int:
    """How many images run at a time."""
    return max(1, min(len(images), _VALUES // max(1, images[0].numel())))


def batches_of(images: Tensor) -> tuple[Tensor, ...]:
    """Images in parts that run at a time."""
    return torch.split(images, batch_of(images))


def _told(
    step: str,
    images: tuple[Tensor, Tensor],
    agreements: tuple[Agreement, Agreement],
    changed: Sequence[str],
    undone: bool,
) -> dict[str, Any]:
    fit, judged = images
    top1 = [None if one.top1 is None else round(one.top1, 4) for one in agreements]
    last = agreements[-1].top1
    spread = None if last is None else round(standard_error(last, len(judged)), 4)
    return {
        "step": step,
        "images": len(fit),
        "held_back": len(judged),
        "agreement": top1,
        "standard_error": spread,
        "error": [float(f"{one.error:.4g}") for one in agreements],
        "changed": [] if undone else sorted(set(changed)),
        "undone": undone,
    }


def refit(
    networks: Networks, images: Tensor, seed: int, ridges: Sequence[float] = RIDGES
) -> list[str]:
    """Refit the layers of the smaller network; see `prunecore.recovery.least_squares`."""
    columns, kept = _to_fit(networks)
    recording = Recording(networks.original, networks.layers, columns, kept, len(images), seed)
    batches = batches_of(images)
    for batch in batches:
        recording.run(batch)
    once = {path: told for path, told in recording.answers.items() if recording.calls[path] == 1}
    return Refit(networks.small, networks.small_layers, once, batches, ridges).run()


def agreement_on(original: nn.Module, small: nn.Module, images: Tensor) -> Agreement:
    """How far a smaller network answers as the original does; both are left as they are.

    Args:
        original: in eval mode.
        small: the smaller network.
        images: shape `(n, ...)`.
    """
    batch = batch_of(images)
    network = copy.deepcopy(small).eval()
    with torch.no_grad(), kept_random_states(), OwnDraws():
        expected = outputs_of(original, images, batch)
        return agreement(expected, outputs_of(network, images, batch))


class RepeatedRefit:
    """Refits several smaller networks of one original, which runs once for all of them.

    Args:
        original: the network, in eval mode.
        layers: its linear maps and norms, by path.
        images: what is refitted on, shape `(n, ...)`.
        seed: of the places that are looked at.
    """

    def __init__(self, original: nn.Module, layers: Layers, images: Tensor, seed: int) -> None:
        self._columns = {
            path: layer.matrix().shape[2]
            for path, layer in layers.items()
            if isinstance(layer, LinearMap)
        }
        recording = Recording(
            original, layers, self._columns, dict.fromkeys(self._columns), len(images), seed
        )
        self._batches = batches_of(images)
        for batch in self._batches:
            recording.run(batch)
        self._answers = recording.answers
        self._calls = recording.calls

    def run(self, networks: Networks) -> None:
        """Refit a smaller network, from the first layer on that is cut.

        Raises:
            WeightsError: activations on the images are not finite.
        """
        columns, kept = _to_fit(networks)
        answers: dict[str, Answers] = {}
        for path, told in self._answers.items():  # in the order in which layers are called
            if path not in columns or self._calls[path] > 1:
                continue
            places = kept[path]
            if answers or places is not None or columns[path] < self._columns[path]:
                answers[path] = told if places is None else told.of(places)
        Refit(networks.small, networks.small_layers, answers, self._batches).run()


def _to_fit(networks: Networks) -> tuple[dict[str, int], dict[str, Tensor | None]]:
    """The columns and kept outputs of each layer that can be fitted, by path.

    A weight that several layers have, or that answers in several calls, cannot answer as each of
    them does: such layers stay as they are cut.
    """
    keep = networks.keep
    uses = Counter(
        id(layer.weight) for layer in networks.layers.values() if isinstance(layer, LinearMap)
    )
    columns: dict[str, int] = {}
    kept: dict[str, Tensor | None] = {}
    for path, layer in networks.small_layers.items():
        whole = networks.layers.get(path)
        visits = keep.dependencies.forwards.visits.get(path, ())
        if not (isinstance(layer, LinearMap) and isinstance(whole, LinearMap) and len(visits) == 1):
            continue
        output = visits[0].output
        if uses[id(whole.weight)] > 1 or not isinstance(output, Signal):
            continue
        groups, outputs, width = layer.matrix().shape
        is_kept = keep.mask(output.ids.ravel())
        places = torch.from_numpy(is_kept.nonzero()[0]) if len(is_kept) > 1 else None
        there = whole.matrix().shape[0] * whole.matrix().shape[1]
        if groups * outputs == (there if places is None else len(places)):
            columns[path] = width
            kept[path] = None if places is None or len(places) == there else places
    return columns, kept


def _estimate(networks: Networks, images: Tensor, _seed: int) -> list[str]:
    if not any(isinstance(layer, RunningStatistics) for layer in networks.layers.values()):
        raise UsageError(
            "The step batch-norm estimates statistics of batch norms, and the network has none.\n"
            "Leave it out."
        )
    return estimate_statistics(networks.small, networks.small_layers, batches_of(images))


# Called with both networks, images and the seed; returns the names of the tensors it has changed.
Step = Callable[[Networks, Tensor, int], list[str]]

STEPS: Mapping[str, Step] = {
    "refit": refit,
    "batch-norm": _estimate,
}
