"""Barriers: what is not understood keeps all that reaches it, and runs as it stands."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.utils import _pytree as pytree

from prunecore.channels.channels import Channels
from prunecore.channels.ids import Ids, without_channels
from prunecore.channels.layers.products import count_product
from prunecore.channels.names import is_of_torch, is_within, join, named_plain_tensors
from prunecore.channels.signal import Signal
from prunecore.channels.sizes import counted
from prunecore.errors import UnsupportedError
from prunecore.escaping import shown
from prunecore.functions.rule import Operation
from prunecore.isolation.copies import Isolation
from prunecore.tracing.modules.attributes import without_storage
from prunecore.tracing.modules.forwards import forward_of
from prunecore.tracing.modules.leaves import returned_by, run_with_numbers, with_numbers
from prunecore.tracing.modules.module_hooks import hooks_of


def past_function(channels: Channels, operation: Operation) -> Any:
    """Follow a call of a function of which nothing is known: all that it is given stays.

    Args:
        channels: the walk.
        operation: the call, its tensors plain.

    Returns:
        What it returns, a `Signal` for each tensor, in which no channels lie.

    Raises:
        InputShapeError: it cannot be called with tensors of these shapes.
        UnsupportedError: what it returns is a whole number that the walk cannot know.
    """
    name = f".{operation.args[1]}" if operation.function is getattr else operation.name
    given = operation.args, dict(operation.kwargs)
    _keep_whole(channels, given, f"no rule says what {name} does to it")

    def on_numbers(*args: Any, **kwargs: Any) -> Any:
        returned = with_numbers(operation.function, *args, **kwargs)
        if any(isinstance(leaf, int) for leaf in pytree.tree_leaves(returned)):
            raise _UnknownNumberError
        return returned

    try:
        return _returned(channels, operation.function, on_numbers, given)
    except _UnknownNumberError:
        channels.refuse(
            f"its forward makes a whole number of a tensor's values, by {name}",
            "Hold the number itself, as self.number = 3, in the place of a tensor.",
        )


class _UnknownNumberError(Exception):
    """A whole number, by which a forward may take places, depends on the values of tensors."""


def past_module(
    channels: Channels,
    module: nn.Module,
    given: tuple[Any, Any],
    why: UnsupportedError,
    in_training: bool,
) -> Any:
    """Follow a call of a module that is not understood: it stays, and all that it is given.

    Args:
        channels: the walk.
        module: the module.
        given: what it is called with, by place and by name, its tensors plain.
        why: the error that following it ends with.
        in_training: the mode that it is called in.

    Returns:
        What it returns, a `Signal` for each tensor, in which no channels lie.

    Raises:
        UnsupportedError: it cannot be run, either.
    """
    name = f"{shown(channels.path)} ({shown(type(module).__name__)})"
    _keep_whole(channels, given, f"{name} is not understood")
    channels.leave_whole(module, why.reason)
    held = (tensor for _, tensor in named_plain_tensors(module))
    for tensor in (*module.parameters(), *module.buffers(), *held):
        for axis in range(tensor.ndim):
            channels.bind(tensor, axis, None)
    channels.records.forwards.constants_held |= {
        join(channels.path, name)
        for name, _ in named_plain_tensors(module)
        if not is_of_torch(type(module.get_submodule(name.rpartition(".")[0])))
    }
    channels.records.touched |= {path for path, _ in module.named_modules(prefix=channels.path)}
    followed = without_storage(Isolation(module).of(module), in_training)
    numbers = functools.partial(run_with_numbers, module, in_training)
    try:
        return _returned(channels, followed, numbers, given)
    except Exception:  # whatever a user's forward raises
        raise why from why.__cause__


def _returned(
    channels: Channels,
    function: Callable[..., Any],
    on_numbers: Callable[..., Any],
    given: tuple[Any, Any],
) -> Any:
    """What is returned for what is given, without channels; its products are counted."""
    run = functools.partial(returned_by, function, on_numbers)
    returned, macs = channels.run(run, *given[0], **given[1])
    if macs:
        count_product(channels, macs)
    return pytree.tree_map_only(Tensor, _whole, returned)


def can_be_barrier(model: nn.Module, error: UnsupportedError) -> bool:
    """True if the module that an error names may be left as it stands, rather than refused.

    Args:
        model: the network.
        error: what following it ended with.
    """
    if not error.path:
        return False
    module = model.get_submodule(error.path)
    # hooks and parametrizations are no part of what is written of it
    has_more = any(hooks_of(one) or is_parametrized(one) for one in module.modules())
    return not has_more and forward_of(module) is not nn.Module.forward


def advised(model: nn.Module, error: UnsupportedError) -> UnsupportedError:
    """An error that says which part of the network may be pruned in place of the whole, if any may.

    That is the largest one without what is not understood that is given one tensor. Where it is the
    network itself that is not understood, it is one of its own parts rather than one within these;
    else it has more than half of the weights.

    Args:
        model: the network.
        error: what is not understood of it.
    """
    sizes = {
        path: sum(parameter.numel() for parameter in module.parameters())
        for path, module in model.named_modules()
        if path
        and not is_within(path, [error.path] if error.path else [])
        and not is_within(error.path, [path])
        and forward_of(module) is not nn.Module.forward
        and any(True for _ in module.children())
        and _takes_a_tensor(module)
    }
    depths = {path: 0 if error.path else path.count(".") for path in sizes}
    part = max(sizes, key=lambda path: (-depths[path], sizes[path]), default="")
    least = sum(parameter.numel() for parameter in model.parameters()) / 2 if error.path else 0
    if sizes.get(part, 0) <= least or "--module" in error.remedy:
        return error
    remedy = f"{error.remedy} Or prune a part of the network in its place (--module {part})."
    return UnsupportedError(error.path, error.class_name, error.reason, remedy, error.line)


def _takes_a_tensor(module: nn.Module) -> bool:
    """True if a module is called with one thing, which may be a tensor."""
    parameters = inspect.signature(module.forward).parameters.values()
    required = [one for one in parameters if one.default is one.empty and one.kind in _BY_PLACE]
    told = (inspect.Parameter.empty, Tensor, "Tensor", "torch.Tensor")
    return len(required) == 1 and required[0].annotation in told


_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _keep_whole(channels: Channels, given: Any, reason: str) -> None:
    """Keep all channels of tensors, and all that numbers count.

    Args:
        channels: the walk.
        given: tensors and numbers, in collections.
        reason: completes "left whole because ...".
    """
    leaves = pytree.tree_leaves(given)
    for ids in counted(leaves):
        channels.pin(ids, reason)
    known: dict[int, Ids] = {}  # one of each length: as all stay, any may be taken for another
    for signal in (leaf for leaf in leaves if isinstance(leaf, Signal)):
        channels.pin(signal.ids, reason)
        if len(signal.channel_axes) == 1:
            known.setdefault(signal.ids.size, signal.ids.ravel())
        for axis, size in enumerate(() if signal.parameter is None else signal.parameter.shape):
            own = known.setdefault(size, channels.fresh(size))
            channels.bind(signal.parameter, axis, own)
            channels.pin(own, reason)


def _whole(tensor: Tensor) -> Signal:
    return Signal(tensor.to("meta"), without_channels(tensor.ndim))
