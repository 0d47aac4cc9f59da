"""Stand-ins of a traced forward that know how many items they have, so that it may go through them.

The tuple that `x.split(4, 1)` returns has as many items as its shape tells, whatever the tensors in
it hold; so has `x.shape`. A tensor itself is not gone through: its first axis is the batch.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from typing import Any

from torch import Tensor, fx

from prunecore.devices import DeviceKind


class Known(fx.Proxy):
    """Stands for what a node computes."""

    tracer: Any
    is_nested = False  # a network that is pruned is given rectangles

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """What `isinstance` says of it: a tensor or a collection where it stands for one."""
        value = self.tracer.known(self)
        if isinstance(value, Tensor):
            return Tensor
        return type(value) if isinstance(value, list | tuple | dict) else type(self)

    def __len__(self) -> int:
        """How many items a tuple, list or dictionary has.

        Raises:
            RuntimeError: it is something else.
        """
        value = self.tracer.known(self)
        return len(value) if isinstance(value, list | tuple | dict) else super().__len__()

    def __getattr__(self, k: str) -> KnownAttribute:
        return _Device(self, k) if k == "device" else KnownAttribute(self, k)


class KnownAttribute(fx.proxy.Attribute, Known):
    """Stands for an attribute, perhaps a method."""

    def __getattr__(self, k: str) -> KnownAttribute:
        return KnownAttribute(self, k)


class _Device(KnownAttribute):
    """Stands for `x.device`, which knows its kind."""

    type = DeviceKind("cpu")


def items_of(proxy: Any, value: Any) -> Iterator[Any]:
    """What a loop over a traced value goes through: keys as they are, stand-ins for values.

    Args:
        proxy: stands for it.
        value: what it is, its tensors without storage.

    Raises:
        TraceError: it has no number of items that shapes tell.
    """
    if isinstance(value, list | tuple):
        return (proxy[place] for place in range(len(value)))
    if isinstance(value, dict | KeysView):
        return iter(list(value))
    if isinstance(value, ValuesView | ItemsView):
        held = proxy.tracer.proxy(proxy.node.args[0])  # whose method gave it
        items = [(key, held[key]) for key in held]
        return iter([item for _, item in items] if isinstance(value, ValuesView) else items)
    is_tensor = isinstance(value, Tensor)
    what = "the first axis of a tensor" if is_tensor else "what is not known before it runs"
    raise fx.proxy.TraceError(f"it goes through {what}")


def without_views(graph: fx.Graph) -> None:
    """Take out what only gave a dictionary's keys or values to a loop, which has its items now.

    Args:
        graph: the trace; it is changed.
    """
    for node in graph.nodes:
        is_view = node.op == "call_method" and node.target in ("keys", "values", "items")
        if is_view and not node.users:
            graph.erase_node(node)
