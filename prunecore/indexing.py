"""The rules for functions that take places of a tensor by their number."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from prunecore.functions import FunctionRule, Operation
from prunecore.signal import Signal

if TYPE_CHECKING:
    from prunecore.channels import Channels


def _index(channels: Channels, operation: Operation) -> Any:
    """Indexing by integers, slices, `...` and `None`; a cut through channels leaves them whole."""
    tensor, index = operation.args
    if not isinstance(tensor, Signal):  # a tuple of them
        return operation.function(tensor, index)
    items = list(index) if isinstance(index, tuple) else [index]
    if any(not isinstance(item, int | slice | type(None) | type(...)) for item in items):
        kinds = " and ".join(_kind(item) for item in items)
        channels.refuse(
            f"its forward indexes a tensor with {kinds}",
            "Index with integers and slices, or give a rule in a plugin "
            "(hook prunecore_functions).",
        )
    meta = operation.run(channels)
    taken = sum(isinstance(item, int | slice) for item in items)
    rest: list[Any] = [slice(None)] * (tensor.ndim - taken)
    at = items.index(...) if ... in items else len(items)
    items = [*items[:at], *rest, *items[at + 1 :]]
    axis = 0
    for place, item in enumerate(items):
        if item is None:
            continue
        if not tensor.carries_channels(axis):
            items[place] = 0 if isinstance(item, int) else slice(None)
        elif item != slice(None):
            channels.pin(tensor.ids, "a slice cuts through it")
        axis += 1
    ids = tensor.ids[tuple(items)]
    return Signal(meta, ids if ids.size > 1 else ids.reshape([1] * meta.ndim))


def _kind(item: Any) -> str:
    """What an index is, for a message: a tensor's own text would fill pages."""
    return "a tensor" if isinstance(item, Signal) else repr(item)


RULES: Mapping[Callable[..., Any], FunctionRule] = {operator.getitem: FunctionRule(_index)}
