"""A network that runs on several batches side by side, all halting before the same module."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

from greenlet import getcurrent, greenlet
from torch import Tensor, nn


class SideBySide:
    """Runs a network on batches that take turns, from one module to the next.

    What lives between two modules is in memory for all batches, what only comes and goes for one.
    The batches take turns in this thread, by greenlets: each leaves a forward in its midst.

    Args:
        network: runs on one batch; which modules it calls does not depend on the numbers.
        batches: its inputs.

    Attributes:
        now: the number of the batch whose turn it is.
    """

    def __init__(self, network: nn.Module, batches: Sequence[Tensor]) -> None:
        self._network, self._batches = network, batches
        self.now = 0

    def run(self, halts: Collection[str], at_halt: Callable[[str, list[Tensor]], None]) -> None:
        """Run all batches up to a module, do something about what it is to read, and go on.

        Args:
            halts: the paths of the modules.
            at_halt: called with the path of a module, and its input for each batch.
        """
        around = getcurrent()

        def halt(path: str, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
            around.switch((path, inputs[0]))

        handles = [
            self._network.get_submodule(path).register_forward_pre_hook(
                functools.partial(halt, path)
            )
            for path in halts
        ]
        turns = [greenlet(functools.partial(self._through, batch)) for batch in self._batches]
        try:
            while reached := [*filter(None, map(self._turn, range(len(turns)), turns))]:
                at_halt(reached[0][0], [read for _, read in reached])
        finally:
            for handle in handles:
                handle.remove()
            for turn in turns:
                turn.throw()  # one that still halts, as an error has come between, ends there

    def _turn(self, number: int, turn: greenlet) -> Any:
        self.now = number
        return turn.switch()

    def _through(self, batch: Tensor) -> None:
        self._network(batch)
