"""One level of a module's own forward as a torch.fx graph, every child a leaf."""

from __future__ import annotations

import copy
import random
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import fx, nn

from prunecore.attributes import held_numbers
from prunecore.errors import UnsupportedError
from prunecore.fused import layer_by_layer
from prunecore.lines import file_of, raising_line
from prunecore.made import traced_factories
from prunecore.modes import Modes, alike
from prunecore.proxies import ChangedListError, without_views
from prunecore.standing_in import standing_in
from prunecore.supplied import put_together
from prunecore.tracer import NotHeldError, OneLevel, forward_of
from prunecore.training import TRAINING, Training


def trace_level(
    module: nn.Module, path: str, supplied: Mapping[str, Any], both: bool = True
) -> Modes:
    """Trace a module's own forward, every child a leaf.

    The module itself is not touched: the tracer works on a shallow copy. Training is traced only
    where eval mode reads `self.training` for more than to hand it on.

    Args:
        module: the module.
        path: its path in the network, for messages.
        supplied: the arguments of its forward that are given, by parameter name.
        both: whether training counts.

    Raises:
        UnsupportedError: its forward does what torch.fx cannot follow, such as branching on data.
    """
    flag = Training(0)
    graph = _trace(module, path, supplied, flag)
    if not flag.is_read:
        return Modes(graph, graph)
    if not both:
        return Modes(graph, None)
    other = trace_training(module, path, supplied)
    return Modes(graph, graph if alike(graph, other) else other)


def trace_training(
    module: nn.Module, path: str, supplied: Mapping[str, Any], without: Collection[str] = ()
) -> fx.Graph:
    """Trace a module's own forward as it runs in training, every child a leaf.

    Args:
        module: the module.
        path: its path in the network, for messages.
        supplied: the arguments of its forward that are given, by parameter name.
        without: paths of children in it that are `None`.

    Raises:
        UnsupportedError: torch.fx cannot follow it, or it draws numbers while it is traced.
    """
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state(), random.getstate()
        graph = _trace(module, path, supplied, Training(1), without)
        draws = not torch.equal(before[0], torch.get_rng_state()) or before[1] != random.getstate()
        random.setstate(before[1])
    if draws:
        raise UnsupportedError(
            path,
            type(module).__name__,
            "its forward in training draws numbers that are no tensors of the network's size",
            f"Draw with x.new_empty(...).bernoulli_(p) and multiply by that. {_REMEDY}",
        )
    return graph


_A_PART = "Or prune a part of the network in its place (--module PATH)."
_REMEDIES: Mapping[type[Exception], str] = {
    NotHeldError: "Hold it in an attribute, or in an nn.ModuleList or nn.ModuleDict, not in a "
    "plain list.",
    ChangedListError: "Let the submodule return what it puts into the list, and read that; or give "
    "it list(...) of yours.",
}
_REMEDY = f"Or leave out what only training does (--drop {TRAINING})."


def _trace(
    module: nn.Module,
    path: str,
    supplied: Mapping[str, Any],
    flag: Training,
    without: Collection[str] = (),
) -> fx.Graph:
    try:
        shadow = _shadow(module)
    except RuntimeError as error:  # torch refuses to copy a parametrized module
        raise UnsupportedError(
            path,
            type(module).__name__,
            "one of its weights is computed each time, not stored",
            "Make it a plain parameter first, with "
            "torch.nn.utils.parametrize.remove_parametrizations.",
        ) from error
    vars(shadow).update(held_numbers(module))
    shadow.training = flag  # type: ignore[assignment]
    for child in without:
        holder = shadow
        *outer, name = child.split(".")
        for key in outer:
            holder._modules[key] = _shadow(holder.get_submodule(key))
            holder = holder.get_submodule(key)
        holder._modules[name] = None
    tracer = OneLevel(module, supplied)
    forward = forward_of(module)
    if forward is not type(module).forward:
        tracer.traced_func_name = forward.__name__
    try:
        with layer_by_layer(), traced_factories(), standing_in(), tracer.made:
            graph = tracer.trace(shadow)
    except Exception as error:  # whatever the user's own forward raises when it meets a proxy
        raise _untraceable(module, path, error, bool(flag)) from error
    without_views(graph)
    put_together(graph, supplied)
    return graph


def _shadow(module: nn.Module) -> nn.Module:
    """A shallow copy with registries of its own."""
    shadow = copy.copy(module)
    for registry in ("_modules", "_parameters", "_buffers"):
        shadow.__dict__[registry] = dict(getattr(module, registry))
    return shadow


def _untraceable(
    module: nn.Module, path: str, error: Exception, in_training: bool
) -> UnsupportedError:
    name = type(module).__name__
    forward = forward_of(module)
    if forward is nn.Module.forward:
        return UnsupportedError(
            path,
            name,
            "it has no forward",
            "Call its children from the forward of the module that holds it.",
        )
    remedy = _REMEDIES.get(
        type(error),
        "Take the branch or conversion on tensor values out of its forward, or install or "
        f"write a plugin that owns {name} (hook prunecore_calculate_dependencies).",
    )
    reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    others = f" {_REMEDY}" if in_training else "" if path else f" {_A_PART}"
    return UnsupportedError(
        path,
        name,
        f"its forward{' in training' if in_training else ''} cannot be traced: {reason}",
        f"{remedy}{others}",
        raising_line(error, file_of(forward)),
    )
