"""Constants that are not part of the state dict: written out where they are short, stored else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from prunecore.channels.keep import Keep
from prunecore.channels.names import is_within, join, module_paths, named_modules
from prunecore.registry import Plugins
from prunecore.writing.tensors.regular import regular
from prunecore.writing.text import Call, Name, one_line

_LONGEST = 64  # elements that are written out


def constant(buffer: Tensor, keep: Keep) -> Call | None:
    """The expression of a buffer's kept values; `None` where these are too many to write out."""
    values = keep.cut(buffer)
    times = [1] * buffer.ndim
    if buffer.numel() > _LONGEST:
        for axis in range(buffer.ndim):
            first = values.narrow(axis, 0, 1)
            if torch.equal(first.expand_as(values), values):
                values, times[axis] = first, keep.width(buffer, axis)
    if values.numel() > _LONGEST:
        call = regular(values)
        if call is None:
            return None
    else:
        is_inferred = buffer.dtype in (torch.float32, torch.int64, torch.bool)
        keywords = {} if is_inferred else {"dtype": Name(str(buffer.dtype))}
        call = Call("torch.tensor", (_numbers(values),), keywords)
    return Call(f"{one_line(call)}.repeat", tuple(times)) if max(times, default=1) > 1 else call


def _numbers(values: Tensor) -> Any:
    """The elements in lists; a float32 by as few digits as tell it from the others."""
    if values.dtype is torch.float32:
        shortest = [float(str(number)) for number in values.cpu().numpy().ravel()]
        return torch.tensor(shortest, dtype=torch.float64).view(values.shape).tolist()
    return values.tolist()


def stored_constants(model: nn.Module, keep: Keep, plugins: Plugins) -> dict[str, Tensor]:
    """The constants that are not part of the original's state dict and are of the written one's.

    Args:
        model: the original network.
        keep: what stays of it.
        plugins: blocks that they own are written by them, with the constants that these have.

    Returns:
        The original's tensors, by their names there.
    """
    forwards, first = keep.dependencies.forwards, module_paths(model)
    return {
        join(path, key): tensor
        for path, module in named_modules(model, remove_duplicate=False)
        if plugins.owner(type(module)) is None
        or path in forwards.opened
        or is_within(path, forwards.barriers)
        for key, tensor in unsaved_constants(module, first[id(module)], keep).items()
        if constant(tensor, keep) is None
    }


def unsaved_constants(module: nn.Module, path: str, keep: Keep) -> dict[str, Tensor]:
    """What a module has of constants beside its state dict, by their names there.

    They are buffers that are registered as not persistent, and those of the attributes that hold
    tensors which a forward reads.

    Args:
        module: of the original.
        path: its path, the first of several.
        keep: what stays of the network.
    """
    held = keep.dependencies.forwards.constants_held
    buffers = {key: module._buffers[key] for key in module._non_persistent_buffers_set}
    plain = {key: value for key, value in vars(module).items() if join(path, key) in held}
    return {key: x for key, x in {**buffers, **plain}.items() if x is not None}
