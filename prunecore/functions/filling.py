"""Rules for functions that make a tensor of one number, which is as wide as what it meets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from prunecore.channels.signal import Computed, Filled, Signal, kind_of, shaped
from prunecore.channels.sizes import counted
from prunecore.functions.reshaping import counted_by, write_sizes
from prunecore.functions.rule import Arguments, FunctionRule, Operation, elementwise, everywhere

if TYPE_CHECKING:
    from prunecore.channels.channels import Channels
    from prunecore.channels.keep import Keep


def _new(channels: Channels, operation: Operation) -> Signal:
    """A new tensor of a type and on a device as another one's."""
    return _filled(channels, operation, first=1)


def _made(channels: Channels, operation: Operation) -> Signal:
    """A tensor that is made of no other."""
    return _filled(channels, operation, first=0)


def _filled(channels: Channels, operation: Operation, first: int) -> Signal:
    """A tensor whose size is the argument at a place, or those from there on.

    Where its size is a number of channels, it has these; else it is as wide as what it meets.
    """
    if operation.name.endswith("full"):
        for ids in counted([operation.argument(first + 1, "fill_value")]):
            channels.pin(ids, f"{operation.name} depends on how many there are")
    meta = operation.run(channels)
    sizes = operation.argument(first, "size")
    sizes = sizes if isinstance(sizes, tuple | list) else operation.args[first:]
    known = counted_by(sizes, meta)
    is_alike = known.size == 1 and meta.is_floating_point() and operation.name != "new_empty"
    return Signal(shaped(meta.shape, kind_of(meta)), known, Filled() if is_alike else None)


def _like(channels: Channels, operation: Operation) -> Signal:
    """A tensor that is filled as wide as another one."""
    made = elementwise(channels, operation)
    return replace(made, origin=operation.tensor.origin_as(Filled))


def _write_sizes(arguments: Arguments, result: Signal, keep: Keep) -> Arguments:
    """Literal sizes of what is made of no tensor: those that count channels become the widths."""
    (_, *args), keywords = write_sizes(((None, *arguments[0]), arguments[1]), result, keep)
    return tuple(args), keywords


RULES: Mapping[Callable[..., Any], FunctionRule] = {
    **everywhere("new_zeros new_ones new_full new_empty", FunctionRule(_new, write_sizes)),
    **dict.fromkeys(
        (torch.zeros, torch.ones, torch.full), FunctionRule(_made, _write_sizes, makes=True)
    ),
    **everywhere("zeros_like ones_like full_like", FunctionRule(_like, understands=(Computed,))),
}
