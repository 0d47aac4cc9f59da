"""The `with` blocks of a written forward: what it computes under stands in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import fx

from prunecore.channels.records import Trace
from prunecore.channels.signal import Signal
from prunecore.tracing.contexts import Context, under
from prunecore.tracing.modules.attributes import DeviceType
from prunecore.writing.expressions import literal
from prunecore.writing.statements import AnyStatement, Compound
from prunecore.writing.text import Call, Name, one_line


class Blocks:
    """The blocks that a writer is in.

    Args:
        trace: the forward that is written.

    Attributes:
        source: the input whose device a block asks for; `None` where none does.
    """

    def __init__(self, trace: Trace) -> None:
        self._open: list[tuple[Context, list[AnyStatement]]] = []
        contexts = [context for node in trace.graph.nodes for context in under(node)]
        asks = any(isinstance(arg, DeviceType) for context in contexts for arg in context.args)
        inputs = (node for node in trace.graph.nodes if node.op == "placeholder")
        tensors = (node for node in inputs if isinstance(trace.values[node], Signal))
        self.source = next(tensors, None) if asks else None

    @property
    def depth(self) -> int:
        """How many they are."""
        return len(self._open)

    @property
    def contexts(self) -> list[Context]:
        """What they are, the outermost first."""
        return [context for context, _ in self._open]

    def open(self, context: Context, around: list[AnyStatement]) -> None:
        """Begin one, among the statements around it."""
        self._open.append((context, around))

    def close(self, body: Sequence[AnyStatement], device: str) -> list[AnyStatement]:
        """End the innermost one; what stands around it, with it.

        Args:
            body: its statements.
            device: how a device is reached.
        """
        context, around = self._open.pop()
        if body:
            args = [
                Name(f"{device}.type") if isinstance(arg, DeviceType) else arg
                for arg in context.args
            ]
            call = Call(context.name, literal(tuple(args)), literal(dict(context.kwargs)))
            around.append(Compound(f"with {one_line(call)}", tuple(body)))
        return around


def shared(nodes: Iterable[fx.Node]) -> list[Context]:
    """The blocks that all of these nodes are in, the outermost first."""
    columns = zip(*map(under, nodes), strict=False)
    found = []
    for column in columns:
        if any(context != column[0] for context in column):
            break
        found.append(column[0])
    return found
