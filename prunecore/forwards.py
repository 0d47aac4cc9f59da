"""The traced forwards of a network's modules, in eval mode and in training."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Any

from torch import fx, nn
from torch.utils import _pytree as pytree

from prunecore.errors import UsageError
from prunecore.modes import Modes
from prunecore.records import is_within
from prunecore.signal import Signal
from prunecore.tracing import trace_level, trace_training
from prunecore.training import TRAINING
from prunecore.wrapped import only_wrapped


class Forwards:
    """Traces the modules of a network, each once.

    Args:
        drop: paths of modules that training is to do without; `training` is all that eval mode
            does not do.
        rules: the functions that are known, which a trace does not go through where
            `torch.fx.wrap` marks them.

    Attributes:
        differing: paths of the modules that do something else in training.
        lacking: paths of those of which that is left out, whatever it is.
        as_in_eval: paths of those of which all that it calls is dropped: as in eval mode.
        absent: paths of the modules that the others of them do without.
    """

    def __init__(self, drop: Collection[str], rules: Collection[Callable[..., Any]]) -> None:
        self.differing: set[str] = set()
        self.lacking: set[str] = set()
        self.as_in_eval: set[str] = set()
        self.absent: set[str] = set()
        self._drop = drop
        self._rules = rules
        self._modes: dict[Hashable, Modes] = {}

    def check(self, path: str, in_training: bool) -> None:
        """Check that a module that is called is not one to be left out.

        Raises:
            UsageError: it is.
        """
        if not is_within(path, self._drop):
            return
        if in_training:
            raise UsageError(
                f"{path} cannot be dropped by itself: what calls it is followed by a plugin.\n"
                "Drop the module that holds it."
            )
        raise UsageError(
            f"{path} cannot be dropped: the network calls it in eval mode, too.\n"
            "Drop a module that only training reaches, such as an auxiliary head."
        )

    def graph(
        self, module: nn.Module, path: str, supplied: Mapping[str, Any], in_training: bool
    ) -> fx.Graph:
        """A module's forward in one of the modes, every child a leaf.

        In training without the children that are dropped. If it would be without all that only
        training calls, it is the forward of eval mode.

        Args:
            module: the module.
            path: its path in the network.
            supplied: the arguments of its forward that are given, by parameter name.
            in_training: the mode.

        Raises:
            UnsupportedError: it cannot be traced.
        """
        leaves, structure = pytree.tree_flatten(dict(supplied))
        shapes = tuple(leaf.shape if isinstance(leaf, Signal) else None for leaf in leaves)
        key = path, str(structure), shapes
        if key not in self._modes:
            both = TRAINING not in self._drop
            with only_wrapped(self._rules):
                self._modes[key] = trace_level(module, path, supplied, both)
        modes = self._modes[key]
        if modes.training is None:
            self.lacking.add(path)
        elif modes.differ:
            self.differing.add(path)
        if not in_training or modes.training in (modes.eval, None):
            return modes.eval
        only = _called(modes.training) - _called(modes.eval)
        dropped = {child for child in only if is_within(_join(path, child), self._drop)}
        if not dropped:
            return modes.training
        if dropped == only:
            self.as_in_eval.add(path)
            return modes.eval
        self.absent |= {_join(path, child) for child in dropped}
        with only_wrapped(self._rules):
            return trace_training(module, path, supplied, dropped)


def _called(graph: fx.Graph) -> set[str]:
    return {str(node.target) for node in graph.nodes if node.op == "call_module"}


def _join(path: str, child: str) -> str:
    return f"{path}.{child}" if path else child
