"""The masked original: what the written network must agree with."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from prunecore.channels.keep import Keep
from prunecore.channels.names import join
from prunecore.errors import PrunecoreError
from prunecore.isolation.copies import Isolation
from prunecore.tracing.arguments import called_with, one_by_one
from prunecore.tracing.attributes import Training
from prunecore.tracing.module_hooks import hooks_of
from prunecore.tracing.scopes import named_hooks


def masked_original(model: nn.Module, keep: Keep, device: torch.device) -> nn.Module:
    """A float64 copy of the original in eval mode, zero wherever something is not kept.

    Of a block that goes as a whole all tensors are zero, so that it returns what its shortcut does.
    Modules for which zeros would not be inert use the forward that their plugin gave. Where it is a
    function of a module's own forward, the trace of that forward is run with another in its place.

    Args:
        model: the original; the copy shares no tensor with it. It has those of its hooks that
            were followed: they see the copy where they know the original.
        keep: what stays of it.
        device: where the copy is to be.

    Raises:
        PrunecoreError: an attribute of the network cannot be copied.
    """
    stored = [*model.parameters(), *model.buffers()]
    masked = _copy(model, {id(tensor): _masked(tensor, keep, device) for tensor in stored})
    _hook(model, masked, keep.dependencies.hooks)
    for path, (index, forward) in keep.dependencies.masked_forwards.items():
        module = masked.get_submodule(path)
        kept = torch.from_numpy(keep.place(index)).to(device)
        module.forward = functools.partial(forward, module, kept)
    for path, calls in keep.dependencies.masked_functions.items():
        module = masked.get_submodule(path)
        replaced = {
            call: functools.partial(function, torch.from_numpy(keep.place(index)).to(device))
            for call, (index, function) in calls.items()
        }
        graph = keep.dependencies.traces[path].graph
        module.forward = functools.partial(replay, module, graph, replaced)
        for node in graph.nodes:
            if node.op == "call_module":  # its hooks are a part of the trace
                _unhook(module.get_submodule(str(node.target)))
    return masked.eval()


def called_copy(model: nn.Module, without: Collection[str], device: torch.device) -> nn.Module:
    """A float64 copy of the original that does what calling the original does, in eval mode.

    Args:
        model: the original; the copy shares no tensor with it. All hooks are called that are not
            left out, and see the copy where they know the original.
        without: whose hooks are left out, as they are named.
        device: where the copy is to be.

    Raises:
        PrunecoreError: an attribute of the network cannot be copied.
    """
    stored = [*model.parameters(), *model.buffers()]
    copied = _copy(model, {id(tensor): _like(tensor, _double(tensor, device)) for tensor in stored})
    hooks = {
        path: [hook.function for hook in hooks_of(module)]
        for path, module in model.named_modules()
        if named_hooks(path) not in without
    }
    _hook(model, copied, hooks)
    return copied.eval()


def _copy(model: nn.Module, tensors: dict[int, Any]) -> nn.Module:
    """A copy of a network with other tensors.

    Raises:
        PrunecoreError: an attribute of the network cannot be copied.
    """
    try:
        return copy.deepcopy(model, memo=tensors)
    except (TypeError, RuntimeError) as error:
        raise PrunecoreError(
            f"The network cannot be copied, which verification needs: {error}\n"
            "Keep what cannot be copied out of its attributes, or pass --no-verify."
        ) from error


def _hook(
    model: nn.Module, copied: nn.Module, hooks: Mapping[str, Collection[Callable[..., Any]]]
) -> None:
    """Let a copy of a network have some of the network's hooks, each for the copy.

    Args:
        model: the network.
        copied: the copy, which has all of them; it is changed.
        hooks: those that it is to have, by the path of their module.
    """
    copies = dict(zip(model.modules(), copied.modules(), strict=True))
    isolation = Isolation(model, copies=copies)
    for path, module in model.named_modules():
        kept = hooks.get(path, ())
        for name in ("_forward_hooks", "_forward_pre_hooks"):
            registered = getattr(copies[module], name)
            registered.clear()
            for key, hook in getattr(module, name).items():
                if hook in kept:
                    registered[key] = isolation.of(hook)


def _unhook(module: nn.Module) -> None:
    module._forward_hooks.clear()
    module._forward_pre_hooks.clear()


def as_double(model: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """A network's parameters and buffers by name, copied to float64.

    One name for each place that holds a tensor: a module of several paths is one place, a
    parameter of two modules lies in two.
    """
    doubles: dict[int, Tensor] = {}
    named = {}
    for path, module in model.named_modules():
        for key, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                if id(tensor) not in doubles:
                    doubles[id(tensor)] = _double(tensor, device)
                named[join(path, key)] = doubles[id(tensor)]
    return named


def _double(tensor: Tensor, device: torch.device) -> Tensor:
    dtype = torch.float64 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(device, dtype, copy=True)


def _zeros(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros; in memory that the system hands out already zero, where it has such."""
    if device.type != "cpu" or dtype is not torch.float64:
        return torch.zeros(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(shape))


def _masked(tensor: Tensor, keep: Keep, device: torch.device) -> Tensor:
    """Only the rows that stay are read and written: the others are zero from the start."""
    if keep.is_of_removed_block(tensor):
        dtype = torch.float64 if tensor.is_floating_point() else tensor.dtype
        return _like(tensor, _zeros(tensor.shape, dtype, device))
    rows = keep.indices(tensor, 0) if tensor.ndim else None
    part = tensor.detach() if rows is None else tensor.detach()[_on(rows, tensor.device)]
    columns = [keep.indices(tensor, axis) for axis in range(1, tensor.ndim)]
    if any(places is not None for places in columns):
        masked = part.to(device) * _mask(tensor, columns, device)  # float64, as the mask is
    else:
        masked = _double(part, device)
    if rows is not None:
        whole = _zeros(tensor.shape, masked.dtype, device)
        masked = whole.index_copy_(0, _on(rows, device), masked)
    return _like(tensor, masked)


def _like(tensor: Tensor, masked: Tensor) -> Tensor:
    return nn.Parameter(masked, requires_grad=False) if isinstance(tensor, nn.Parameter) else masked


def _mask(tensor: Tensor, columns: list[NDArray[np.int64] | None], device: torch.device) -> Tensor:
    """One where a place stays along the axes after the first, zero elsewhere."""
    mask = torch.ones([1] * tensor.ndim, dtype=torch.float64, device=device)
    for axis, places in enumerate(columns, start=1):
        if places is not None:
            stays = torch.zeros(tensor.shape[axis], dtype=torch.float64, device=device)
            stays[_on(places, device)] = 1
            mask = mask * stays.view([-1 if other == axis else 1 for other in range(tensor.ndim)])
    return mask


def _on(indices: NDArray[np.int64], device: torch.device) -> Tensor:
    return torch.from_numpy(indices).to(device)


def replay(
    module: nn.Module,
    graph: fx.Graph,
    replaced: Mapping[str, Callable[..., Any]],
    *inputs: Any,
    **keywords: Any,
) -> Any:
    """Run a module's forward as it was traced, in eval mode.

    Args:
        module: a module of the class that was traced; its children and tensors are used.
        graph: the trace, every child a leaf.
        replaced: what is called in the place of functions, by the names of their nodes.
        inputs: what the forward is called with.
        keywords: likewise, by name.
    """
    signature = inspect.signature(type(module).forward)
    _, *supplied = signature.bind(module, *inputs, **keywords).arguments.items()
    given = iter(one_by_one(signature, dict(supplied)))
    values: dict[fx.Node, Any] = {}

    def value(leaf: Any) -> Any:
        if isinstance(leaf, fx.Node):
            return values[leaf]
        return module.training if isinstance(leaf, Training) else leaf

    for node in graph.nodes:
        args, kwargs = called_with(node, value)
        if node.op == "placeholder":
            values[node] = next(given)
        elif node.op == "get_attr":
            holder, _, name = node.target.rpartition(".")
            values[node] = getattr(module.get_submodule(holder), name)
        elif node.op == "output":
            return args[0]
        elif node.op == "call_module":
            values[node] = module.get_submodule(node.target)(*args, **kwargs)
        else:
            is_method = node.op == "call_method"
            function = getattr(type(args[0]), node.target) if is_method else node.target
            values[node] = replaced.get(node.name, function)(*args, **kwargs)
    return None
