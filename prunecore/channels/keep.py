"""What a network keeps: the original places that stay of every tensor, argument and signal."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunecore.channels.blocks import rows_at_once
from prunecore.channels.dependencies import Dependencies
from prunecore.channels.ids import Ids
from prunecore.channels.names import is_within, module_paths, tensor_names, tied_to
from prunecore.channels.signal import Signal


class Width(int):
    """A kept width that knows which channels it counts, so that the same ones are named alike."""

    channels: Hashable

    def __new__(cls, value: int, channels: Hashable) -> Width:
        """A width of this value that counts these channels."""
        width = super().__new__(cls, value)
        width.channels = channels
        return width


class Keep:
    """The kept indices of a network: sorted original indices that stay, by tensor and axis.

    Args:
        model: the original network.
        dependencies: its channels.
        kept: whether each channel stays, shape `(dependencies.count,)`.
        removed_blocks: paths of the residual blocks that go as a whole.
    """

    def __init__(
        self,
        model: nn.Module,
        dependencies: Dependencies,
        kept: NDArray[np.bool_],
        removed_blocks: Sequence[str] = (),
    ) -> None:
        self.model = model
        self.dependencies = dependencies
        self.kept = kept
        self.removed_blocks = tuple(removed_blocks)
        self.left_out = (*dependencies.left_out, *removed_blocks)
        self._kept_or_fixed = np.append(kept, True)
        self._names = tensor_names(model)
        self._paths = module_paths(model)
        self._axes = [np.flatnonzero(self._kept_or_fixed[array]) for array in dependencies.axes]
        self._index = {array.tobytes(): i for i, array in enumerate(dependencies.axes)}
        self._is_cut = [
            len(kept) < len(array)
            for kept, array in zip(self._axes, dependencies.axes, strict=True)
        ]
        # many tensors have the same axes
        self._places: dict[tuple[int, torch.device], Tensor] = {}
        self._columns: dict[tuple[int, torch.device], tuple[Tensor, int]] = {}

    def indices(self, tensor: Tensor | None, axis: int) -> NDArray[np.int64] | None:
        """The kept indices along one axis of a parameter or buffer.

        Args:
            tensor: the parameter or buffer of the original.
            axis: its axis, from 0.

        Returns:
            Sorted original indices, shape `(width,)`; `None` where all of them stay.
        """
        bound = self.dependencies.bound.get(self._names.get(id(tensor), ""), {})
        if axis not in bound:
            return None
        return self._axes[bound[axis]] if self._is_cut[bound[axis]] else None

    def width(self, tensor: Tensor, axis: int) -> int:
        """The kept width of one axis of a parameter or buffer."""
        bound = self.dependencies.bound.get(self._names.get(id(tensor), ""), {})
        if axis not in bound:
            return int(tensor.shape[axis])
        return Width(len(self._axes[bound[axis]]), bound[axis])

    def argument(self, module: nn.Module, name: str) -> int:
        """The kept value of a constructor argument that counts channels.

        Args:
            module: of the original.
            name: the argument, by the attribute that holds it, `out_channels`.

        Returns:
            A number of channels; what the attribute holds where none of them may go.
        """
        path = self._paths[id(module)]
        visits = self.dependencies.forwards.visits
        if path not in visits:
            path = tied_to(self.model, path, visits) or path
        index = self.dependencies.widths.get((path, name))
        if index is None:
            return getattr(module, name)  # type: ignore[no-any-return]
        return Width(len(self._axes[index]), index)

    def constants(self, module: nn.Module) -> Mapping[str, Any]:
        """The arguments of a traced module's calls that its written forward does without."""
        return self.dependencies.forwards.constants.get(self._paths[id(module)], {})

    def place(self, index: int) -> NDArray[np.int64]:
        """The kept places of `dependencies.axes[index]`, sorted, shape `(width,)`."""
        return self._axes[index]

    def mask(self, ids: Ids) -> NDArray[np.bool_]:
        """A boolean for each place of an array of ids, of the same shape: true where it stays."""
        return self._kept_or_fixed[self.dependencies.channel_of[ids]]

    def size(self, signal: Signal, axis: int) -> int:
        """The kept width of one axis of a tensor of the forward pass.

        Where its channels lie along several axes, in groups for instance, those but the last have
        the places that anything is left at, and the last what these share out evenly.
        """
        if not signal.carries_channels(axis):
            met = signal.has_met(axis)
            return signal.shape[axis] if met is None else self.count(met)
        ids = np.moveaxis(signal.ids, axis, 0).reshape(signal.ids.shape[axis], -1)
        if ids.shape[1] == 1:
            return self.count(ids[:, 0])
        size = self.mask(ids).any(1).sum()
        if axis == signal.channel_axes[-1]:
            groups = self.mask(signal.ids).any(axis).sum()
            size = self.mask(ids).sum() // max(groups, 1)
        return Width(int(size), self.dependencies.channel_of[ids].tobytes())

    def shape(self, signal: Signal) -> tuple[int, ...]:
        """The kept shape of a tensor of the forward pass."""
        return tuple(self.size(signal, axis) for axis in range(signal.ndim))

    def count(self, ids: Ids) -> Width:
        """How many places of ids stay, shape `(places,)`."""
        channels = self.dependencies.channel_of[ids].tobytes()
        return Width(int(self.mask(ids).sum()), self._index.get(channels, channels))

    def is_left_out(self, module: nn.Module) -> bool:
        """True if a module is left out of the written network, or lies in one that is."""
        return is_within(self._paths[id(module)], self.left_out)

    def is_of_removed_block(self, tensor: Tensor) -> bool:
        """True if a parameter or buffer lies in a residual block that goes as a whole."""
        return is_within(self._names.get(id(tensor), ""), self.removed_blocks)

    def cut_axes(self, tensor: Tensor) -> list[int]:
        """The axes of a parameter or buffer along which places go, in order."""
        bound = self.dependencies.bound.get(self._names.get(id(tensor), ""), {})
        return sorted(axis for axis, index in bound.items() if self._is_cut[index])

    def cut(self, tensor: Tensor) -> Tensor:
        """A parameter or buffer without what goes; not copied where all of it stays."""
        cut_axes, cut = self.cut_axes(tensor), tensor.detach()
        bound = self.dependencies.bound[self._names[id(tensor)]] if cut_axes else {}
        if cut_axes == [0, 1]:
            columns, run = self._columns_on(bound[1], cut.device)
            runs = cut if run == 1 else cut.reshape(len(cut), -1, run, *cut.shape[2:])
            selected = _selected(runs, self._places_on(bound[0], cut.device), columns)
            return selected if run == 1 else selected.flatten(1, 2)
        for axis in cut_axes:
            cut = cut.index_select(axis, self._places_on(bound[axis], cut.device))
        return cut

    def _places_on(self, index: int, device: torch.device) -> Tensor:
        """Kept places as a tensor of a device."""
        if (index, device) not in self._places:
            self._places[index, device] = torch.from_numpy(self._axes[index]).to(device)
        return self._places[index, device]

    def _columns_on(self, index: int, device: torch.device) -> tuple[Tensor, int]:
        """Kept columns as runs of one channel, so that flattened maps are copied run by run."""
        if (index, device) not in self._columns:
            array, kept = self.dependencies.axes[index], self._axes[index]
            run = int(np.argmax(array != array[0])) or 1
            if len(array) % run or (array.reshape(-1, run) != array[::run, None]).any():
                run = 1
            self._columns[index, device] = torch.from_numpy(kept[::run] // run).to(device), run
        return self._columns[index, device]


def _selected(tensor: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The places of a tensor in these rows and columns, its first two axes."""
    step = 4 * rows_at_once(tensor)  # in larger blocks than what is reckoned with: no copy is kept
    if len(rows) <= step:
        return tensor.index_select(0, rows).index_select(1, columns)
    selected = tensor.new_empty(len(rows), len(columns), *tensor.shape[2:])
    for start in range(0, len(rows), step):
        block = tensor.index_select(0, rows[start : start + step])
        torch.index_select(block, 1, columns, out=selected[start : start + step])
    return selected
