"""The masked original: what the written network must agree with."""

from __future__ import annotations

import functools
import inspect
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from prunecore.channels.dependencies import Dependencies
from prunecore.channels.keep import Keep
from prunecore.channels.names import is_within, join, named_plain_tensors
from prunecore.isolation.copies import Isolation
from prunecore.tracing.arguments import absent_from, called_with, given_to, one_by_one
from prunecore.tracing.conditions import TAKEN, Taken, guards_of
from prunecore.tracing.modules.attributes import TrainingFlag
from prunecore.tracing.modules.scopes import named_hooks
from prunecore.tracing.nodes import living, name_of


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
    """
    found = keep.dependencies
    masked = _copy(model, {id(tensor): _masked(tensor, keep, device) for tensor in _stored(model)})
    for path, module in model.named_modules():
        followed = found.forwards.hooks.get(path, ())
        gone = [key for key, hook in _hooks(module).items() if hook not in followed]
        _unhook(masked.get_submodule(path), gone)
    for path, (index, forward) in found.masked_forwards.items():
        module = masked.get_submodule(path)
        kept = torch.from_numpy(keep.place(index)).to(device)
        module.forward = functools.partial(forward, module, kept)
    for path, calls in _replayed(found).items():
        module = masked.get_submodule(path)
        replaced = {
            call: functools.partial(function, torch.from_numpy(keep.place(index)).to(device))
            for call, (index, function) in calls.items()
        }
        ways = {
            absent: [one.graph for one in (trace, *found.forwards.for_other_sizes(path, absent))]
            for absent, trace in found.forwards.ways[path].items()
        }
        module.forward = replaying(module, ways, replaced)
        graphs = chain.from_iterable(ways.values())
        nodes = chain.from_iterable(graph.nodes for graph in graphs)
        parts = [str(node.target) for node in nodes if node.op == "call_module"]
        for part in [*parts, *([] if path else [""])]:  # their hooks are a part of the trace
            called = module.get_submodule(part)
            _unhook(called, list(_hooks(called)))
    return masked.eval()


def _replayed(found: Dependencies) -> dict[str, Mapping[str, Any]]:
    """The functions with another in their place, by name, by the module whose trace is run for it.

    A trace returns plain dictionaries: what holds such a module may read items as attributes, so
    that its own trace is run, too.
    """
    replayed: dict[str, Mapping[str, Any]] = dict(found.masked_functions)
    for path in found.masked_functions:
        outputs = [trace.output for trace in found.forwards.ways[path].values()]
        if any(isinstance(output, dict) for output in outputs):
            replayed |= {
                holder: {}
                for holder in found.forwards.ways
                if holder not in replayed and (not holder or is_within(path, [holder]))
            }
    return replayed


def called_copy(model: nn.Module, without: Collection[str], device: torch.device) -> nn.Module:
    """A float64 copy of the original that does what calling the original does, in eval mode.

    Args:
        model: the original; the copy shares no tensor with it. All hooks are called that are not
            left out, and see the copy where they know the original.
        without: whose hooks are left out, as they are named.
        device: where the copy is to be.
    """
    stored = {id(tensor): _like(tensor, _double(tensor, device)) for tensor in _stored(model)}
    return _without_hooks(_copy(model, stored), without)


def running_copy(model: nn.Module, without: Collection[str]) -> nn.Module:
    """A copy in eval mode to run under hooks: it has the original's parameters, and own buffers.

    Of parameters that were made for inference alone, through which no gradients go, it has copies.

    Args:
        model: the original.
        without: whose hooks are left out, as they are named.
    """
    with torch.inference_mode(mode=False):
        copies = {
            id(parameter): nn.Parameter(parameter.clone(), parameter.requires_grad)
            for parameter in model.parameters()
            if parameter.is_inference()
        }
        isolation = Isolation(model, own_buffers=True, with_hooks=True, stored=copies)
        copied: nn.Module = isolation.of(model)
    return _without_hooks(copied, without)


def _without_hooks(copied: nn.Module, without: Collection[str]) -> nn.Module:
    for path, module in copied.named_modules():
        if named_hooks(path) in without:
            _unhook(module, list(_hooks(module)))
    return copied.eval()


def _copy(model: nn.Module, stored: Mapping[int, Tensor]) -> nn.Module:
    copied: nn.Module = Isolation(model, with_hooks=True, stored=stored).of(model)
    return copied


def _stored(model: nn.Module) -> Iterator[Tensor]:
    plain = (tensor for _, tensor in named_plain_tensors(model))
    return chain(model.parameters(), model.buffers(), plain)


def _hooks(module: nn.Module) -> dict[int, Callable[..., Any]]:
    """The forward hooks of a module, by the numbers that they are registered under."""
    return {**module._forward_pre_hooks, **module._forward_hooks}


def _unhook(module: nn.Module, keys: Iterable[int]) -> None:
    for key in keys:
        module._forward_pre_hooks.pop(key, None)
        module._forward_hooks.pop(key, None)


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


def _masked(tensor: Tensor, keep: Keep, device: torch.device) -> Tensor:
    masked = _double(tensor, device)
    if keep.is_of_removed_block(tensor):
        return _like(tensor, masked.zero_())
    for axis in range(tensor.ndim):
        kept = keep.indices(tensor, axis)
        if kept is not None:
            gone = np.delete(np.arange(tensor.shape[axis]), kept)
            masked.index_fill_(axis, torch.from_numpy(gone).to(device), 0)
    return _like(tensor, masked)


def _like(tensor: Tensor, masked: Tensor) -> Tensor:
    if not isinstance(tensor, nn.Parameter):
        return masked
    return nn.Parameter(masked, tensor.requires_grad)  # which a forward may ask for


def replaying(
    module: nn.Module,
    ways: Mapping[frozenset[str], Sequence[fx.Graph]],
    replaced: Mapping[str, Callable[..., Any]],
) -> Callable[..., Any]:
    """A function that runs a module's forward as it was traced.

    Args:
        module: a module of the class that was traced; its children and tensors are used.
        ways: its traces, every child a leaf, by the arguments that are `None`; after the first
            those for inputs of other sizes.
        replaced: what is called in the place of functions, by the names of their nodes.
    """
    return functools.partial(_replay, module, inspect.signature(module.forward), ways, replaced)


def _replay(
    module: nn.Module,
    signature: inspect.Signature,
    ways: Mapping[frozenset[str], Sequence[fx.Graph]],
    replaced: Mapping[str, Callable[..., Any]],
    *inputs: Any,
    **keywords: Any,
) -> Any:
    supplied = given_to(signature, inputs, keywords)
    given = iter(one_by_one(signature, supplied))
    graph, *others = ways[absent_from(signature, supplied)]
    values: dict[fx.Node, Any] = {}

    def value(leaf: Any) -> Any:
        if isinstance(leaf, fx.Node):
            return values[leaf]
        return module.training if isinstance(leaf, TrainingFlag) else leaf

    waiting = deque(graph.nodes)
    while waiting:
        node = waiting.popleft()
        args, kwargs = called_with(node, value)
        if node.op == "placeholder":
            values[node] = next(given)
        elif node.op == "get_attr":
            holder, _, name = node.target.rpartition(".")
            values[node] = getattr(module.get_submodule(holder), name)
        elif node.op == "output":
            return args[0]
        elif node.op == "call_module":
            called = module.get_submodule(node.target)
            values[node] = nn.Module.__call__(called, *args, **kwargs)
        elif TAKEN in node.meta and not args[0] and (other := _parting(node, others)):
            values, waiting = _on_other_way(other, values)
        else:
            is_method = node.op == "call_method"
            function = getattr(type(args[0]), node.target) if is_method else node.target
            values[node] = replaced.get(name_of(node), function)(*args, **kwargs)
    return None


def _parting(guard: fx.Node, graphs: Sequence[fx.Graph]) -> fx.Node | None:
    """What stands for an assertion on the way where it does not hold."""
    number, holds = guard.meta[TAKEN].number, guard.meta[TAKEN].holds
    other = Taken(number, not holds)
    guards = (one for graph in graphs for one in guards_of(graph) if one.meta[TAKEN] == other)
    return next(guards, None)


def _on_other_way(
    guard: fx.Node, values: Mapping[fx.Node, Any]
) -> tuple[dict[fx.Node, Any], deque[fx.Node]]:
    """What is known, and what is to be done, where a forward goes on behind another assertion."""
    nodes = list(guard.graph.nodes)
    place = nodes.index(guard)
    known = {(node.name, node.target): value for node, value in values.items()}
    names = {node: (node.name, node.target) for node in nodes[:place]}
    before = {node: known[name] for node, name in names.items() if name in known}
    done = {*before, *nodes[place:]}
    lacking = [node for node in living(guard.graph) if node not in done]
    return before, deque([*lacking, *nodes[place + 1 :]])
