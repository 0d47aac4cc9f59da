"""What a table of layer latencies tells of a choice of channels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prunecore.channels.dependencies import Dependencies
from prunecore.channels.names import is_within
from prunecore.errors import UsageError
from prunecore.escaping import shown
from prunecore.latency.table import LatencyTable
from prunecore.latency.timing import Timing
from prunecore.planning.choices import Choice
from prunecore.planning.latency import Measured


class Lookup:
    """Looks the latency of a choice up in a table, instead of measuring it.

    Args:
        dependencies: the network's channels.
        table: of its layers.

    Raises:
        UsageError: the table is one of another network.
    """

    def __init__(self, dependencies: Dependencies, table: LatencyTable) -> None:
        self._dependencies, self._table = dependencies, table
        self._axes = layer_axes(dependencies)
        for path in sorted(table.layers.keys() - self._axes.keys()):
            raise self._of_another(f"it has a layer {shown(path)}")
        for path in self._axes:
            if path not in table.layers:
                raise UsageError(
                    f"The table {shown(table.name)} lacks the layer {shown(path)}.\n"
                    "Add it, as every layer whose weights may lose channels, norms too; or measure "
                    "the network on the device: prunecore latency MODEL --output TABLE.json."
                )
        for path, times in table.layers.items():
            whole = [len(dependencies.axes[index]) for index in self._axes[path]]
            if times.widths[0].tolist() != whole:
                raise self._of_another(f"the first widths of {shown(path)} are not {whole}")

    def __call__(self, kept: NDArray[np.bool_], removed_blocks: Sequence[str]) -> float:
        """Milliseconds of the network of a choice.

        Args:
            kept: whether each channel stays, shape `(channels,)`.
            removed_blocks: paths of the residual blocks that go as a whole.
        """
        counts = widths_of(self._dependencies, kept)
        layers = sum(
            times.at([counts[index] for index in self._axes[path]])
            for path, times in self._table.layers.items()
            if not is_within(path, removed_blocks)
        )
        return self._table.of_network(layers)

    def told(self, choice: Choice) -> Measured:
        """What a report says of a choice; no turns, and no spread."""
        whole = self(np.ones(self._dependencies.count, dtype=bool), ())
        after = self(choice.kept, [block.path for block in choice.blocks])
        return Measured(
            backend=self._table.name,
            threads=self._table.threads,
            before=Timing(whole, 0.0),
            after=Timing(after, 0.0),
            ratio=after / whole,
        )

    def _of_another(self, what: str) -> UsageError:
        return UsageError(
            f"The table {shown(self._table.name)} is of another network: {what}.\n"
            "Measure this one on the device: prunecore latency MODEL --output TABLE.json."
        )


def layer_axes(dependencies: Dependencies) -> dict[str, tuple[int, ...]]:
    """The indices into axes of the channels of each layer that eval mode calls, by its path.

    They stand in the order of the axes of its weights: of a convolution the channels that it makes,
    then those that it reads; those of which none may go are left out. A layer is a module with
    weights that no other that is called lies in.

    Args:
        dependencies: the network's channels.
    """
    forwards = dependencies.forwards
    called = forwards.visits.keys() - forwards.only_in_training - forwards.only_without
    removable = np.append(dependencies.removable, False)  # FIXED is the last place
    may_go = [bool(removable[array].any()) for array in dependencies.axes]
    holders = {above for path in called for above in _above(path)}
    found: dict[str, dict[int, None]] = {}
    for name, bound in dependencies.bound.items():
        path = next((above for above in _above(name) if above in called), "")
        if path not in holders and not is_within(name, dependencies.left_out):
            indices = [bound[axis] for axis in sorted(bound) if may_go[bound[axis]]]
            found.setdefault(path, {}).update(dict.fromkeys(indices))
    return {path: tuple(indices) for path, indices in found.items() if indices}


def _above(path: str) -> list[str]:
    """The paths of what a module lies in, the nearest first; the network's own last."""
    parts = path.split(".")
    return [".".join(parts[:count]) for count in range(len(parts) - 1, -1, -1)] if path else []


def widths_of(dependencies: Dependencies, kept: NDArray[np.bool_]) -> list[int]:
    """How many places stay of each array of channels."""
    stays = np.append(kept, True)
    return [int(stays[array].sum()) for array in dependencies.axes]
