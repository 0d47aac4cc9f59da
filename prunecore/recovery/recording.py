"""What the original answers at some places of each layer, recorded as images run through it."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from prunecore.channels.layers.linear_map import LinearMap, RunningStatistics

# Rows that a layer is fitted on: this many for each of its columns, and no fewer than that.
_PER_COLUMN = 4
_LEAST_ROWS = 4096

# A tensor of the forward pass: what a module is called with, or what it returns.
Key = tuple[str, str]

_ADDITIONS = (
    torch.add,
    Tensor.add,
    Tensor.add_,
    Tensor.__add__,
    Tensor.__iadd__,
    Tensor.__radd__,
)


@dataclass
class Answers:
    """What one layer of the original answers, at the same places of all images.

    Attributes:
        size: the axes of its output that it answers along.
        chosen: the places, shape `(images, places)`.
        values: what it answers there for its kept outputs, shape `(images, places, kept)`.
        norm: the path of the norm that reads its output as it is.
        beside: what its output, or the norm's, is added to afterwards and was there before it.
        addends: that at the same places; `None` where there is nothing.
    """

    size: tuple[int, ...]
    chosen: Tensor
    values: Tensor
    norm: str | None = None
    beside: Key | None = None
    addends: Tensor | None = None

    def of(self, kept: Tensor) -> Answers:
        """The same of some of the outputs."""
        addends = None if self.addends is None else self.addends[..., kept]
        return replace(self, values=self.values[..., kept], addends=addends)


class Recording:
    """Runs the original, and records what its layers answer.

    Args:
        original: the network, in eval mode.
        layers: its linear maps and norms, by path.
        columns: of each layer that is to be fitted, by path: how many inputs a row has in the
            smaller network.
        kept: of each of these, the kept outputs; `None` where all stay.
        count: how many images will run through it.
        seed: of the choice of places.
    """

    def __init__(
        self,
        original: nn.Module,
        layers: Mapping[str, LinearMap | RunningStatistics],
        columns: Mapping[str, int],
        kept: Mapping[str, Tensor | None],
        count: int,
        seed: int,
    ) -> None:
        self.answers: dict[str, Answers] = {}
        self.calls: dict[str, int] = {}  # in one batch
        self._original, self._layers = original, layers
        self._columns, self._kept, self._count = columns, kept, count
        self._random = torch.Generator().manual_seed(seed)
        self._now = slice(0, 0)  # the images of the batch
        self._forget()

    def _forget(self) -> None:
        """Begin a batch: nothing that a tensor was is known of another."""
        self.calls = {}
        self._keys = WeakTensorKeyDictionary()  # tensors of the forward pass to what they are
        self._made_by = WeakTensorKeyDictionary()  # to the layer and the last of it and its norm
        self._number = 0  # of calls of modules so far

    def run(self, images: Tensor) -> Any:
        """Run one batch, and return what the network does."""
        self._forget()
        self._now = slice(self._now.stop, self._now.stop + len(images))
        handles = [
            handle
            for path, module in self._original.named_modules()
            for handle in (
                module.register_forward_pre_hook(functools.partial(self._enter, path)),
                module.register_forward_hook(functools.partial(self._leave, path)),
            )
        ]
        try:
            with _Additions(self):
                return self._original(images)
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, path: str, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        for tensor in inputs[:1]:
            if isinstance(tensor, Tensor) and tensor not in self._keys:
                self._keys[tensor] = (path, "input")

    def _leave(self, path: str, _module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        if output not in self._keys:
            self._keys[output] = (path, "output")
        layer = self._layers.get(path)
        self._number += 1
        if path in self._columns and isinstance(layer, LinearMap):
            self.calls[path] = self.calls.get(path, 0) + 1
            self._record(path, layer, output)
            self._made_by[output] = (path, self._number)
        elif isinstance(layer, RunningStatistics) and inputs and inputs[0] in self._made_by:
            made_by, _ = self._made_by[inputs[0]]
            if self.answers[made_by].norm in (None, path):
                self.answers[made_by].norm = path
                self._made_by[output] = (made_by, self._number)

    def _record(self, path: str, layer: LinearMap, output: Tensor) -> None:
        size = layer.places(output)
        there = math.prod(size)
        known = self.answers.get(path)
        if known is None:
            rows = max(_LEAST_ROWS, _PER_COLUMN * self._columns[path])
            number = min(there, -(-rows // self._count))
            # room for all images at once, lest small pieces lie between what comes and goes
            known = self.answers[path] = Answers(
                size,
                torch.arange(number, device=output.device).repeat(self._count, 1),
                output.new_empty(self._count, number, self._width(path, layer)),
            )
        chosen = known.chosen[self._now]
        if chosen.shape[1] < there:
            drawn = torch.rand(len(output), there, generator=self._random)
            chosen.copy_(drawn.topk(chosen.shape[1], dim=1).indices)
        known.values[self._now] = self._answered(path, output, chosen)

    def _width(self, path: str, layer: LinearMap) -> int:
        kept = self._kept[path]
        groups, outputs, _ = layer.matrix().shape
        return groups * outputs if kept is None else len(kept)

    def _answered(self, path: str, output: Tensor, chosen: Tensor) -> Tensor:
        """What a layer answers at some places for its kept outputs, `(n, places, kept)`."""
        layer, kept = self._layers[path], self._kept[path]
        assert isinstance(layer, LinearMap)
        values = layer.answers(output, chosen)
        return (values if kept is None else values[:, kept]).reshape(*chosen.shape, -1)

    def meet(self, first: Tensor, second: Tensor) -> None:
        """Note what two tensors of equal shape are that are about to be added."""
        known = [
            (*self._made_by[tensor][::-1], tensor)
            for tensor in (first, second)
            if tensor in self._made_by
        ]
        if not known:
            return
        _, path, later = max(known, key=lambda entry: entry[0])
        other = second if later is first else first
        if other is later or other not in self._keys:
            return
        answers = self.answers[path]
        answers.beside = self._keys[other]
        if answers.addends is None:
            answers.addends = torch.empty_like(answers.values)
        answers.addends[self._now] = self._answered(path, other, answers.chosen[self._now])


class _Additions(TorchFunctionMode):
    """Tells a recording of every sum of two tensors."""

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self._recording = recording

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Note the operands of an addition, and call it."""
        operands = args[:2]
        if func in _ADDITIONS and all(isinstance(one, Tensor) for one in operands):
            first, second = operands
            if first.shape == second.shape:
                self._recording.meet(first, second)
        return func(*args, **(kwargs or {}))
